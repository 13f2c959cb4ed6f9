//! Hazards of revocation (H5, H6, H7 of the project's list of lessons), each a story and its test. Those of caches, links
//! and disks are tested where these are.

use tokenscope::domain::{Among, Denial, Expiry, PolicyEntry};
use tokenscope::service::Decision;
use tokenscope::service::request::{ChangeRequest, RevokeTarget};

use crate::face::Room;
use crate::lessons::{NOW, Story, timed};
use crate::workload::{at, client, everywhere, grant, make_grant, place, register, subject, token, workspace};

/// H5. Removing a user with many tokens was many writes, and a reader in between saw some gone and some not. Here it is
/// one change: before it all have the place, after it none.
#[test]
fn h5_removing_a_user_ends_all_their_tokens_in_one_change() {
    let mut story = Story::new();
    for number in 1..=10 {
        story.does(&make_grant("ada", if number % 2 == 0 { "zapper" } else { "personal" }, vec![everywhere(&["*"])]));
    }
    for number in 1..=300 {
        story.does(&register(number, 1 + number % 10, NOW));
    }
    let count = |story: &Story, place| {
        (1..=300).filter(|number| story.check(*number, "tasks:read", place) == Decision::Allowed).count()
    };
    assert_eq!((count(&story, "10"), count(&story, "20")), (300, 300));
    story.does(&ChangeRequest::RemoveMember(subject("ada"), place("10")));
    assert_eq!((count(&story, "10"), count(&story, "20")), (0, 300));
}

/// H6. A user was removed and added again, and the old tokens had the workspace back.
#[test]
fn h6_coming_back_does_not_revive_what_was_granted_before() {
    for access in
        [vec![at("10", &["tasks:read"])], vec![everywhere(&["tasks:read"])], vec![at("10/1", &["tasks:read"])]]
    {
        let mut story = Story::new();
        story.does(&make_grant("ada", "zapper", access.clone()));
        story.does(&register(1, 1, NOW));
        story.does(&ChangeRequest::RemoveMember(subject("ada"), place("10")));
        story.does(&ChangeRequest::AddMember(subject("ada"), place("10")));
        let before_leaving = Decision::Denied(Denial::GrantedBeforeLeaving);
        assert_eq!(story.check(1, "tasks:read", "10/1"), before_leaving, "{access:?}");
        // A new token of the old grant has no more than the grant.
        story.does(&register(2, 1, NOW));
        assert_eq!(story.check(2, "tasks:read", "10/1"), before_leaving, "{access:?}");
        // Saying again that ada is a member, or being added to the project, does not help either.
        story.does(&ChangeRequest::AddMember(subject("ada"), place("10")));
        story.does(&ChangeRequest::AddMember(subject("ada"), place("10/1")));
        assert_eq!(story.check(1, "tasks:read", "10/1"), before_leaving, "{access:?}");
        // Asking ada again does.
        story.does(&make_grant("ada", "zapper", access.clone()));
        story.does(&register(3, 2, NOW));
        assert_eq!(story.check(3, "tasks:read", "10/1"), Decision::Allowed, "{access:?}");
        assert_eq!(story.check(1, "tasks:read", "10/1"), before_leaving, "{access:?}");
        story.does(&ChangeRequest::ExtendGrant(grant(1), access.clone()));
        assert_eq!(story.check(1, "tasks:read", "10/1"), Decision::Allowed, "an extension is a new consent");
    }
}

/// H6, for somebody who was in a project alone.
#[test]
fn h6_removal_from_the_workspace_ends_its_projects_too() {
    let mut story = Story::new();
    story.does(&ChangeRequest::AddMember(subject("guest"), place("10/1")));
    story.does(&make_grant("guest", "zapper", vec![at("10", &["tasks:read"])]));
    story.does(&register(1, 1, NOW));
    assert_eq!(story.check(1, "tasks:read", "10/1"), Decision::Allowed);
    assert_eq!(story.check(1, "tasks:read", "10"), Decision::Denied(Denial::NotAMember));
    // The guest was never a member of the workspace; removing them from it all the same ends the project.
    story.does(&ChangeRequest::RemoveMember(subject("guest"), place("10")));
    assert_eq!(story.check(1, "tasks:read", "10/1"), Decision::Denied(Denial::NotAMember));
    story.does(&ChangeRequest::AddMember(subject("guest"), place("10/1")));
    assert_eq!(story.check(1, "tasks:read", "10/1"), Decision::Denied(Denial::GrantedBeforeLeaving));
}

/// H7. A registration that arrived after its own revocation brought the token to life. All orders of five events: token
/// 1 is dead in each, token 2 has what it has in each.
#[test]
fn h7_no_order_of_issue_and_revocation_revives_anything() {
    let events = [
        register(1, 1, NOW),
        ChangeRequest::Revoke(RevokeTarget::Token(token(1))),
        register(2, 1, NOW),
        ChangeRequest::SetPolicyEntry(workspace("20"), client("zapper"), PolicyEntry::Block),
        ChangeRequest::Revoke(RevokeTarget::IssuedBefore(NOW, Among::Client(client("zapper")))),
    ];
    let mut orders = vec![Vec::new()];
    for event in 0..events.len() {
        let longer = |order: &Vec<usize>| -> Vec<Vec<usize>> {
            let put_in = |at: usize| [&order[..at], &[event], &order[at..]].concat();
            (0..=order.len()).map(put_in).collect()
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    assert_eq!(orders.len(), 120);
    for order in orders {
        let mut story = Story::new();
        story.does(&make_grant("ada", "zapper", vec![at("10", &["tasks:read"]), at("20", &["tasks:read"])]));
        for event in &order {
            // A late registration of a revoked token may be refused or kept as a dead one.
            let _ = story.world.change(&events[*event], NOW);
        }
        assert!(!story.is_active(1), "{order:?}");
        assert_eq!(story.check(2, "tasks:read", "10"), Decision::Allowed, "{order:?}");
        assert_eq!(story.check(2, "tasks:read", "20"), Decision::Denied(Denial::AppBlocked), "{order:?}");
    }
}

/// H7. Registering a known token again, with better terms, changes nothing.
#[test]
fn h7_a_second_registration_changes_nothing() {
    let mut story = Story::with_one_token();
    story.does(&make_grant("bob", "timer", vec![at("10", &["*"])]));
    let before = story.world.introspect(&token(1), None, NOW);
    let _ = story.world.change(&timed(register(1, 2, NOW), |times| times.expiry = Expiry::Never), NOW);
    assert_eq!(story.world.introspect(&token(1), None, NOW), before);
    story.revokes(RevokeTarget::Token(token(1)));
    for of in [1, 2] {
        let _ = story.world.change(&register(1, of, NOW), NOW);
        assert!(!story.is_active(1), "registered again under grant {of}");
    }
}
