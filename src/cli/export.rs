//! Everything that is alive, in the import format: clients, scopes, members, policies, grants, tokens.
//!
//! What is dead stays behind: revoked, expired and void grants and tokens are not written, so importing an export can
//! bring nothing back to life. Memberships that ended leave no trace either, so a grant that lost a place by them is
//! written without that place.

use std::io::Write;

use super::Failure;
use crate::daemon::offline::Offline;
use crate::domain::access::Covers;
use crate::domain::{
    Audience, ClientId, GrantId, Place, PolicyMode, Reach, ScopeMask, SubjectId, Switch, TokenKey, WorkspaceId,
};
use crate::import::line::{GrantLine, Label, Line, PolicyLine, TokenLine, TokenName};
use crate::index::{GrantRecord, PairRecord, Pin};
use crate::service::request::NamedAccess;

/// Writes the export.
///
/// # Errors
/// `out` failed, or a name in the store is none (which would be a defect).
pub fn export(offline: &Offline, out: &mut dyn Write) -> Result<(), Failure> {
    let index = &offline.opened().index;
    let pin = index.pin();
    let now = offline.clock().now();
    let mut say = |line: Line| writeln!(out, "{}", line.to_json()).map_err(Failure::from);
    say(Line::Pepper(offline.pepper().fingerprint()))?;
    for entry in pin.catalogue().entries() {
        say(Line::Scope(entry.name.clone(), if entry.retired { Switch::Off } else { Switch::On }))?;
    }
    for (alias, of) in pin.catalogue().aliases() {
        let name = of.and_then(|position| pin.catalogue().entries().get(usize::from(position.number())));
        let of = name.map_or("*", |entry| &*entry.name);
        say(Line::Alias(alias.into(), of.into()))?;
    }
    for number in 0..pin.clients() {
        let name = pin.client_text(number);
        if let Some((facts, true)) = pin.client_facts(number)
            && name != crate::domain::id::PERSONAL
        {
            say(Line::Client(ClientId::parse(name).map_err(broken)?, facts.switch))?;
        }
    }
    for number in 0..pin.subjects() {
        let subject = SubjectId::parse(pin.subject_text(number)).map_err(broken)?;
        if pin.subject_facts(number).is_some_and(|facts| facts.switch == Switch::Off) {
            say(Line::Subject(subject.clone(), Switch::Off))?;
        }
        for (place, _) in pin.memberships(number).filter(|(_, member)| member.live) {
            say(Line::Member(subject.clone(), Place::parse(pin.place_text(place)).map_err(broken)?))?;
        }
    }
    for place in 0..pin.places() {
        if let Some(line) = policy(&pin, place)? {
            say(Line::Policy(line))?;
        }
    }
    let mut written = vec![false; pin.grants() as usize + 1];
    for number in 1..=pin.grants() {
        let Some(grant) = pin.grant(number) else { continue };
        let Some(standing) = pin.grant_standing(&grant) else { continue };
        let void = standing.unrevoked().is_err() || grant.facts.expiry.has_passed(now);
        let access = access(&pin, pin.pairs(&grant).filter(|pair| alive(&pin, &grant, pair)))?;
        if void || access.is_empty() {
            continue;
        }
        written[number as usize] = true;
        say(Line::Grant(GrantLine {
            label: label(grant.id)?,
            subject: SubjectId::parse(pin.subject_text(grant.subject)).map_err(broken)?,
            client: ClientId::parse(pin.client_text(grant.client)).map_err(broken)?,
            access,
            expiry: grant.facts.expiry,
            audience: Some(audience(&mut pin.audience(None, &grant))?),
        }))?;
    }
    let mut keys: Vec<TokenKey> = Vec::new();
    pin.for_each_token(|token| {
        if written.get(token.grant as usize).copied().unwrap_or(false) {
            keys.push(token.key);
        }
    });
    keys.sort_unstable();
    for key in keys {
        let Some(token) = pin.token(key) else { continue };
        let Some(grant) = pin.grant(token.grant) else { continue };
        let expired = token.times.expiry.has_passed(now);
        let void = pin.token_facts(&token, &grant).is_none_or(|facts| facts.is_void());
        if token.revoked || expired || void {
            continue;
        }
        let own = audience(&mut pin.audience(Some(&token), &grant))?;
        let narrowed = token.narrowed_pairs(&pin).map(|pairs| access(&pin, pairs)).transpose()?;
        say(Line::Token(TokenLine {
            name: TokenName::Handle(key.handle()),
            grant: label(grant.id)?,
            times: token.times,
            audience: token.has_own_audience().then_some(own),
            confirmation: token.bound(&pin).map(Into::into),
            narrowed,
        }))?;
    }
    Ok(())
}

/// Whether a pair was not ended by leaving the place, or by revoking the client there.
fn alive(pin: &Pin<'_>, grant: &GrantRecord, pair: &PairRecord) -> bool {
    let Some(spot) = pair.place.and_then(|place| pin.spot_of(place)) else { return true };
    let facts = pin.place_facts(grant, spot);
    let left = facts.workspace.removed.max(facts.project.map_or(facts.workspace.removed, |project| project.removed));
    let covers = spot.covered_by(pair).unwrap_or(Covers::Everywhere);
    // A project's own removal does not end a pair that names the whole workspace.
    let left = if covers == Covers::Workspace { facts.workspace.removed } else { left };
    pair.since > left && pair.since > facts.policy.void_before
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::run_time(format!("a name in the store is none: {error}"))
}

fn label(id: GrantId) -> Result<Label, Failure> {
    Label::parse(&id.to_string()).map_err(Failure::run_time)
}

fn audience(names: &mut dyn Iterator<Item = &str>) -> Result<Vec<Audience>, Failure> {
    names.map(|name| Audience::parse(name).map_err(broken)).collect()
}

fn access(pin: &Pin<'_>, pairs: impl Iterator<Item = PairRecord>) -> Result<NamedAccess, Failure> {
    pairs
        .map(|pair| {
            let reach = match pair.place {
                None => Reach::Everywhere,
                Some(place) => Reach::At(Place::parse(pin.place_text(place)).map_err(broken)?),
            };
            Ok((reach, scopes(pin, &pair.scopes)))
        })
        .filter(|pair| pair.as_ref().map_or(true, |(_, names)| !names.is_empty()))
        .collect()
}

/// The names of a set, the wildcard alone if it is in; withdrawn scopes are left out, since a grant cannot name them.
fn scopes(pin: &Pin<'_>, mask: &ScopeMask) -> Vec<Box<str>> {
    if mask.has_wildcard() {
        return vec![crate::domain::scope::WILDCARD.into()];
    }
    pin.catalogue().names(mask).map(Into::into).collect()
}

fn policy(pin: &Pin<'_>, place: u32) -> Result<Option<PolicyLine>, Failure> {
    if pin.is_project(place) {
        return Ok(None);
    }
    let facts = pin.policy(place, u32::MAX);
    let clients = |listed: fn(&(u32, bool, bool)) -> bool| -> Result<Vec<ClientId>, Failure> {
        let on_list = pin.policy_lines(place).filter(listed);
        on_list.map(|(client, ..)| ClientId::parse(pin.client_text(client)).map_err(broken)).collect()
    };
    let (blocked, approved) = (clients(|(_, blocked, _)| *blocked)?, clients(|(.., approved)| *approved)?);
    let usual = facts.mode == PolicyMode::AllowAll && facts.personal == Switch::On;
    if usual && blocked.is_empty() && approved.is_empty() {
        return Ok(None);
    }
    let workspace = WorkspaceId::parse(pin.place_text(place)).map_err(broken)?;
    Ok(Some(PolicyLine { workspace, mode: Some(facts.mode), personal: Some(facts.personal), blocked, approved }))
}
