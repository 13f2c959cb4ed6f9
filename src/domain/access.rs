//! The rule: whether a token is active, and what is left of its grant at a place. The only place where grant,
//! membership and policy are combined; the service and the client library both stand on it.
//!
//! ```text
//! active           =  known ∧ nbf ≤ now < exp ∧ grant alive ∧ client alive ∧ subject alive ∧ after every "void before" mark
//! scopes at place  =  what grant and token give there, if the subject is a member there and the policy lets the client in
//!                     nothing otherwise
//! ```
//!
//! Deny wins: every fact here can only take away, and each is looked at on its own, so a narrower rule can never hide
//! a wider one. Everything is a pure function of facts and `now`. What falls outside (a fact that cannot be found) is
//! the caller's to turn into a denial.

use super::change::{PolicyMode, Sequence, Switch};
use super::scope::{ScopeMask, ScopePosition};
use super::time::{Expiry, Timestamp};
use super::token::TokenTimes;

/// Why a token is not active. For the operator alone: metrics, logs, `explain`. A caller learns `active: false`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Inactive {
    /// No token with this digest is known.
    Unknown,
    /// The string cannot be a token of ours: right prefix, wrong checksum, or longer than any token.
    Malformed,
    /// `nbf` is still ahead.
    NotYetValid,
    /// `exp` has come.
    Expired,
    /// The token was revoked.
    TokenRevoked,
    /// Its grant was revoked.
    GrantRevoked,
    /// Its grant has ended.
    GrantExpired,
    /// Its client is suspended.
    ClientOff,
    /// Its client was revoked.
    ClientRevoked,
    /// Its subject is suspended.
    SubjectOff,
    /// Everything its subject granted was revoked.
    SubjectRevoked,
    /// What its subject granted to its client was revoked.
    SubjectClientRevoked,
    /// It was issued before a mark.
    IssuedBeforeMark,
    /// It is alive, but no place is left where it may do anything (for this caller).
    NothingLeft,
    /// It is meant for other resource servers than the caller.
    WrongAudience,
}

impl Inactive {
    /// Every reason, in order.
    pub const ALL: [Self; 15] = [
        Self::Unknown,
        Self::Malformed,
        Self::NotYetValid,
        Self::Expired,
        Self::TokenRevoked,
        Self::GrantRevoked,
        Self::GrantExpired,
        Self::ClientOff,
        Self::ClientRevoked,
        Self::SubjectOff,
        Self::SubjectRevoked,
        Self::SubjectClientRevoked,
        Self::IssuedBeforeMark,
        Self::NothingLeft,
        Self::WrongAudience,
    ];

    /// The word for metrics, logs and `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::TokenRevoked => "token_revoked",
            Self::GrantRevoked => "grant_revoked",
            Self::GrantExpired => "grant_expired",
            Self::ClientOff => "client_suspended",
            Self::ClientRevoked => "client_revoked",
            Self::SubjectOff => "subject_suspended",
            Self::SubjectRevoked => "subject_revoked",
            Self::SubjectClientRevoked => "subject_client_revoked",
            Self::IssuedBeforeMark => "issued_before_mark",
            Self::NothingLeft => "nothing_left",
            Self::WrongAudience => "wrong_audience",
        }
    }
}

/// Why an active token may not do what was asked. The caller learns it (house rule TS-11): it is the integrator's error
/// message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Denial {
    /// The catalogue does not have the scope that was asked about.
    ScopeUnknown = 1,
    /// The grant names neither this place nor a workspace around it.
    PlaceNotGranted = 2,
    /// The grant names the place, but not this scope there.
    ScopeNotGranted = 3,
    /// The subject is not a member of the place.
    NotAMember = 4,
    /// The subject left the place after the grant was made and came back; old grants are not revived.
    GrantedBeforeLeaving = 5,
    /// The workspace blocks the app.
    AppBlocked = 6,
    /// The workspace lets only approved apps in, and this is none.
    AppNotApproved = 7,
    /// The workspace lets no personal tokens in.
    PersonalTokensOff = 8,
    /// What the app was granted in this workspace was revoked.
    AppRevokedHere = 9,
}

impl Denial {
    /// Every reason, in order.
    pub const ALL: [Self; 9] = [
        Self::ScopeUnknown,
        Self::PlaceNotGranted,
        Self::ScopeNotGranted,
        Self::NotAMember,
        Self::GrantedBeforeLeaving,
        Self::AppBlocked,
        Self::AppNotApproved,
        Self::PersonalTokensOff,
        Self::AppRevokedHere,
    ];

    /// The reason with this number, as the native protocol writes it.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|denial| *denial as u8 == code)
    }

    /// The word for JSON, metrics and the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScopeUnknown => "scope_unknown",
            Self::PlaceNotGranted => "place_not_granted",
            Self::ScopeNotGranted => "scope_not_granted",
            Self::NotAMember => "not_a_member",
            Self::GrantedBeforeLeaving => "granted_before_leaving",
            Self::AppBlocked => "app_blocked",
            Self::AppNotApproved => "app_not_approved",
            Self::PersonalTokensOff => "personal_tokens_off",
            Self::AppRevokedHere => "app_revoked_here",
        }
    }

    /// A sentence for the person who reads the integrator's error message.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::ScopeUnknown => "no such scope exists",
            Self::PlaceNotGranted => "the app was not given access to this workspace or project",
            Self::ScopeNotGranted => "the app was not given this permission here",
            Self::NotAMember => "the user is not a member of this workspace or project",
            Self::GrantedBeforeLeaving => "the user left and came back; the app must ask for access again",
            Self::AppBlocked => "an administrator of the workspace has blocked the app",
            Self::AppNotApproved => "the workspace admits only approved apps, and this one is not approved",
            Self::PersonalTokensOff => "the workspace does not admit personal access tokens",
            Self::AppRevokedHere => "the app's access to this workspace was revoked",
        }
    }
}

/// What is known of a grant, as far as it decides whether its tokens are active.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrantFacts {
    /// When it was made.
    pub made: Sequence,
    /// When it ends.
    pub expiry: Expiry,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Tokens of it issued before this are void.
    pub issued_before: Timestamp,
}

/// What is known of a subject or a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartyFacts {
    /// Whether it is let in at all.
    pub switch: Switch,
    /// Grants made at or before this are void.
    pub void_before: Sequence,
    /// Tokens issued before this are void.
    pub issued_before: Timestamp,
}

impl PartyFacts {
    /// A party nothing was ever said about.
    pub const NEW: Self = Self { switch: Switch::On, void_before: Sequence::ZERO, issued_before: Timestamp::ZERO };
}

/// Everything that decides whether a token is active.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenFacts {
    /// The token's own times.
    pub times: TokenTimes,
    /// Whether the token itself was revoked.
    pub revoked: bool,
    /// Its grant.
    pub grant: GrantFacts,
    /// Its subject.
    pub subject: PartyFacts,
    /// Its client.
    pub client: PartyFacts,
    /// What this subject granted to this client at or before this is void.
    pub subject_client_void_before: Sequence,
    /// Any token issued before this is void.
    pub all_issued_before: Timestamp,
}

impl TokenFacts {
    /// Whether something was revoked that ends the token for good, whatever the time and whoever is suspended.
    pub fn is_void(&self) -> bool {
        // In `verdict` every revocation comes before expiry and suspension, so it is what is found if there is one.
        use Inactive as I;
        let verdict = self.verdict(Timestamp::ZERO);
        matches!(
            verdict,
            Err(I::TokenRevoked
                | I::GrantRevoked
                | I::SubjectClientRevoked
                | I::SubjectRevoked
                | I::ClientRevoked
                | I::IssuedBeforeMark)
        )
    }

    /// Its grant, and between whom.
    pub fn standing(&self) -> GrantStanding {
        let Self { grant, subject, client, subject_client_void_before, .. } = *self;
        GrantStanding { grant, subject, client, subject_client_void_before }
    }

    /// Whether the token is active at `now`, as far as it alone is concerned; places come after.
    ///
    /// # Errors
    /// The first reason why not. Which one comes first matters to nobody but the operator.
    pub fn verdict(&self, now: Timestamp) -> Result<(), Inactive> {
        let Self { times, grant, subject, client, .. } = self;
        let standing = self.standing();
        first([(self.revoked, Inactive::TokenRevoked)])?;
        standing.unrevoked()?;
        first([
            (
                times.issued < self.all_issued_before
                    || times.issued < grant.issued_before
                    || times.issued < subject.issued_before
                    || times.issued < client.issued_before,
                Inactive::IssuedBeforeMark,
            ),
            (times.expiry.has_passed(now), Inactive::Expired),
            (grant.expiry.has_passed(now), Inactive::GrantExpired),
            (now < times.not_before, Inactive::NotYetValid),
        ])?;
        standing.let_in()
    }
}

/// A grant, and what is known of those it stands between: everything that decides whether its tokens can be active,
/// apart from their own times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrantStanding {
    /// The grant itself.
    pub grant: GrantFacts,
    /// Its subject.
    pub subject: PartyFacts,
    /// Its client.
    pub client: PartyFacts,
    /// What this subject granted to this client at or before this is void.
    pub subject_client_void_before: Sequence,
}

impl GrantStanding {
    /// Whether no revocation has made the grant void. One that did has done so for good.
    ///
    /// # Errors
    /// The first revocation that did.
    pub fn unrevoked(&self) -> Result<(), Inactive> {
        let Self { grant, subject, client, .. } = self;
        first([
            (grant.revoked, Inactive::GrantRevoked),
            (grant.made <= self.subject_client_void_before, Inactive::SubjectClientRevoked),
            (grant.made <= subject.void_before, Inactive::SubjectRevoked),
            (grant.made <= client.void_before, Inactive::ClientRevoked),
        ])
    }

    /// Whether neither party is suspended.
    ///
    /// # Errors
    /// Which one is.
    pub fn let_in(&self) -> Result<(), Inactive> {
        first([
            (self.subject.switch == Switch::Off, Inactive::SubjectOff),
            (self.client.switch == Switch::Off, Inactive::ClientOff),
        ])
    }

    /// Whether tokens of the grant can be active at `now`, whatever their own times.
    ///
    /// # Errors
    /// The first reason why not, in the order of [`TokenFacts::verdict`].
    pub fn verdict(&self, now: Timestamp) -> Result<(), Inactive> {
        self.unrevoked()?;
        first([(self.grant.expiry.has_passed(now), Inactive::GrantExpired)])?;
        self.let_in()
    }
}

/// The first reason that holds.
fn first<const N: usize>(reasons: [(bool, Inactive); N]) -> Result<(), Inactive> {
    match reasons.into_iter().find(|(holds, _)| *holds) {
        Some((_, reason)) => Err(reason),
        None => Ok(()),
    }
}

/// What is known of one subject's membership of one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberFacts {
    /// Whether the subject is a member now.
    pub live: bool,
    /// When it last became one.
    pub added: Sequence,
    /// When it last stopped being one; zero if never.
    pub removed: Sequence,
}

impl MemberFacts {
    /// A subject that never was a member.
    pub const NEVER: Self = Self { live: false, added: Sequence::ZERO, removed: Sequence::ZERO };
}

/// A workspace's app policy as it stands for one client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PolicyFacts {
    /// The workspace's mode.
    pub mode: PolicyMode,
    /// Whether personal tokens may enter.
    pub personal: Switch,
    /// Whether the client is on the block list.
    pub blocked: bool,
    /// Whether the client is on the approved list.
    pub approved: bool,
    /// What the client was granted here at or before this is void.
    pub void_before: Sequence,
}

impl PolicyFacts {
    /// A workspace that never set a policy: all apps may enter, personal tokens too.
    pub const NEW: Self = Self {
        mode: PolicyMode::AllowAll,
        personal: Switch::On,
        blocked: false,
        approved: false,
        void_before: Sequence::ZERO,
    };

    /// Whether the workspace lets the client in.
    ///
    /// # Errors
    /// The rule that keeps it out. Personal tokens have a rule of their own and stand on no list.
    pub fn admits(&self, client: ClientKind) -> Result<(), Denial> {
        match client {
            ClientKind::Personal if self.personal == Switch::Off => Err(Denial::PersonalTokensOff),
            ClientKind::Personal => Ok(()),
            ClientKind::App if self.blocked => Err(Denial::AppBlocked),
            ClientKind::App if self.mode == PolicyMode::ApprovalRequired && !self.approved => {
                Err(Denial::AppNotApproved)
            }
            ClientKind::App => Ok(()),
        }
    }
}

/// Whether a client is an app or the built-in client of personal tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientKind {
    /// A registered app.
    App,
    /// [`super::id::ClientId::personal`].
    Personal,
}

/// Everything that decides what a subject's grants to a client are worth at one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlaceFacts {
    /// Membership of the workspace.
    pub workspace: MemberFacts,
    /// Membership of the project, if the place is one.
    pub project: Option<MemberFacts>,
    /// The workspace's policy for the client.
    pub policy: PolicyFacts,
    /// What the client is.
    pub client: ClientKind,
}

/// What a pair of a grant names, seen from a place it covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Covers {
    /// Exactly the project that is asked about.
    Project,
    /// The workspace that is, or is around, the place asked about.
    Workspace,
    /// Wherever the subject is a member.
    Everywhere,
}

/// One pair of a grant that covers the place asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PairFacts {
    /// What it names.
    pub covers: Covers,
    /// When it was granted.
    pub since: Sequence,
    /// The scopes the pair gives, cut to what the token was narrowed to.
    pub scopes: ScopeMask,
}

impl PlaceFacts {
    /// Whether a pair granted at `since` is worth anything here.
    ///
    /// Membership first, then policy: what a workspace thinks of an app is no business of somebody who is not in it.
    ///
    /// # Errors
    /// The reason why not.
    pub fn admits(&self, covers: Covers, since: Sequence) -> Result<(), Denial> {
        // A membership of the workspace covers its projects; removal from it ends them too, so a project membership
        // counts only if it was given after the last removal from the workspace.
        let in_workspace = self.workspace.live;
        let in_project = self.project.is_some_and(|project| project.live && project.added > self.workspace.removed);
        if !in_workspace && !in_project {
            return Err(Denial::NotAMember);
        }
        let removed_from_project = self.project.map_or(Sequence::ZERO, |project| project.removed);
        let leans_on_project = covers == Covers::Project || !in_workspace;
        let left = self.workspace.removed.max(if leans_on_project { removed_from_project } else { Sequence::ZERO });
        if since <= left {
            return Err(Denial::GrantedBeforeLeaving);
        }
        self.policy.admits(self.client)?;
        if since <= self.policy.void_before {
            return Err(Denial::AppRevokedHere);
        }
        Ok(())
    }

    /// The scopes that all of `pairs` together give here.
    pub fn scopes(&self, pairs: impl IntoIterator<Item = PairFacts>) -> ScopeMask {
        pairs.into_iter().fold(ScopeMask::EMPTY, |scopes, pair| match self.admits(pair.covers, pair.since) {
            Ok(()) => scopes.union(pair.scopes),
            Err(_) => scopes,
        })
    }

    /// Whether the pairs that cover this place allow `scope` here.
    ///
    /// # Errors
    /// Why not: nothing covers the place, no pair has the scope, or the reason that keeps out the pair that has it.
    pub fn decide(&self, scope: ScopePosition, pairs: impl IntoIterator<Item = PairFacts>) -> Result<(), Denial> {
        let mut denial = Denial::PlaceNotGranted;
        for pair in pairs {
            if pair.scopes.is_empty() {
                continue;
            }
            if !pair.scopes.allows(scope) {
                if denial == Denial::PlaceNotGranted {
                    denial = Denial::ScopeNotGranted;
                }
                continue;
            }
            match self.admits(pair.covers, pair.since) {
                Ok(()) => return Ok(()),
                // Whatever the order of the pairs, the one that came furthest gives the reason.
                Err(reason) => denial = denial.max(reason),
            }
        }
        Err(denial)
    }
}
