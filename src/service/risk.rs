//! How risky an app, a grant or a token is, before and after granting (row S10 of the design).
//!
//! The rating is the worst of its reasons, and every reason is a sentence. The rules, all of them:
//!
//! | what | rating |
//! |---|---|
//! | reads only, one workspace, an hour | low |
//! | writes · more than one workspace · lives longer than a day · 90 days old and not used for as long | medium |
//! | deletes · more than 10 workspaces · future memberships too · lives longer than 90 days, or for ever | high |
//! | every scope, later ones too (wildcard) · for ever and writing and usable by whoever finds it | critical |

use std::collections::BTreeSet;

use super::Service;
use super::caller::Caller;
use super::introspect::earlier;
use super::look::{Chosen, GrantSet, grant_verdict, is_active, names, reaches};
use super::report::{ListOf, Rating, ReportError, RiskOf, RiskReport};
use super::request::ChangeRequest;
use crate::domain::{Expiry, Reach, ScopeMask, Timestamp};
use crate::index::{GrantRecord, Pin};

const DAY: u64 = 86_400;
/// Unused for longer than this, in seconds, is a reason of its own.
const STALE_SECONDS: u32 = 90 * 86_400;
/// Workspaces that are named in a report.
const WORKSPACES_MAX: usize = 1_000;

/// What has been found, before it is judged.
#[derive(Default)]
struct Findings {
    workspaces: BTreeSet<String>,
    places: BTreeSet<u32>,
    everywhere: bool,
    scopes: ScopeMask,
    grants: u64,
    tokens: u64,
    bearer: u64,
    ends: Option<Expiry>,
    last_used: Option<Timestamp>,
    /// When the first of the tokens was issued: what is new cannot have been left unused for long.
    issued: Option<Timestamp>,
}

impl Findings {
    fn grant(&mut self, pin: &Pin<'_>, grant: &GrantRecord, within: Option<u32>) {
        self.grants += 1;
        for pair in pin.pairs(grant) {
            let mut counted = false;
            let mut consider = |place: u32| {
                let Some(spot) = pin.spot_of(place) else { return };
                let inside = within.is_none() || spot.workspace == within;
                let covers = spot.covered_by(&pair);
                let facts = pin.place_facts(grant, spot);
                if inside && covers.is_some_and(|covers| facts.admits(covers, pair.since).is_ok()) {
                    self.places.insert(place);
                    let workspace = spot.workspace.unwrap_or(place);
                    self.workspaces.insert(pin.place_text(workspace).to_owned());
                    counted = true;
                }
            };
            match pair.place {
                Some(place) => consider(place),
                None => pin.memberships(grant.subject).for_each(|(place, _)| consider(place)),
            }
            if pair.place.is_none() && within.is_none() {
                self.everywhere = true;
            }
            if counted || pair.place.is_none() {
                self.scopes = self.scopes.union(pair.scopes);
            }
        }
    }

    fn ends(&mut self, expiry: Expiry) {
        self.ends = Some(self.ends.map_or(expiry, |known| if known.raw() >= expiry.raw() { known } else { expiry }));
    }

    fn report(self, service: &Service, pin: &Pin<'_>, now: Timestamp) -> RiskReport {
        let scopes = names(pin, &self.scopes);
        let ending = |suffix: &str| scopes.iter().filter(|name| name.ends_with(suffix)).count() as u64;
        let (writes, deletes) = (ending(":write"), ending(":delete"));
        let wildcard = self.scopes.has_wildcard();
        let lives_seconds = match self.ends {
            Some(Expiry::Never) => None,
            Some(Expiry::At(end)) => Some(end.seconds().saturating_sub(now.seconds())),
            None => Some(0),
        };
        let mut reasons = Vec::new();
        let mut reason = |holds: bool, rating: Rating, text: String| {
            if holds {
                reasons.push((rating, text));
            }
        };
        reason(wildcard, Rating::Critical, "It has every scope, and every scope that will be added.".into());
        let for_ever = lives_seconds.is_none();
        reason(
            for_ever && (writes + deletes > 0 || wildcard) && self.bearer > 0,
            Rating::Critical,
            "It can change things for ever, and whoever finds the token can use it.".into(),
        );
        reason(deletes > 0, Rating::High, format!("It can delete: {deletes} of its scopes end in \":delete\"."));
        reason(self.everywhere, Rating::High, "It reaches every workspace the user joins later.".into());
        let reached = self.workspaces.len();
        reason(reached > 10, Rating::High, format!("It reaches {reached} workspaces."));
        reason(for_ever, Rating::High, "It never ends.".into());
        let days = lives_seconds.unwrap_or(0) / DAY;
        reason(days > 90, Rating::High, format!("It lives for {days} more days."));
        reason(writes > 0, Rating::Medium, format!("It can write: {writes} of its scopes end in \":write\"."));
        reason((2..=10).contains(&reached), Rating::Medium, format!("It reaches {reached} workspaces."));
        reason((1..=90).contains(&days), Rating::Medium, format!("It lives for {days} more days."));
        let long_ago = |at: Timestamp| at < now.minus(STALE_SECONDS);
        let stale = self.issued.is_some_and(long_ago) && self.last_used.is_none_or(long_ago);
        reason(stale, Rating::Medium, "It was not used in the last 90 days.".into());
        reason(
            self.bearer > 0,
            Rating::Low,
            format!("Whoever finds one of {} tokens can use it: they are bound to no key.", self.bearer),
        );
        reasons.sort_by_key(|(rating, _)| std::cmp::Reverse(*rating));
        let rating = reasons.first().map_or(Rating::Low, |(rating, _)| *rating);
        RiskReport {
            revision: service.revision(),
            rating,
            reasons,
            workspaces: self.workspaces.into_iter().take(WORKSPACES_MAX).collect(),
            places: self.places.len() as u64,
            everywhere: self.everywhere,
            writes,
            deletes,
            wildcard,
            scopes,
            grants: self.grants,
            tokens: self.tokens,
            lives_seconds,
            bearer_tokens: self.bearer,
            last_used: self.last_used,
        }
    }
}

impl Service {
    /// How risky something is. Operators and issuers; an administrator for a client in a workspace of its own.
    ///
    /// # Errors
    /// The caller may not ask this, or what it names does not exist.
    pub fn risk(&self, caller: &Caller, of: &RiskOf, now: Timestamp) -> Result<RiskReport, ReportError> {
        let sees_all = caller.rights.operate || caller.rights.issue;
        let own = |workspace: &Option<String>| {
            let administers = caller.rights.administer.as_ref();
            workspace.as_ref().is_some_and(|name| administers.is_some_and(|only| only.includes(name.as_str())))
        };
        let may = sees_all || matches!(of, RiskOf::Client(_, workspace) if own(workspace));
        if !may {
            let what = "see how risky this is";
            return Err(ReportError::Forbidden { caller: caller.id.to_string(), what });
        }
        let pin = self.pin();
        let mut found = Findings::default();
        match of {
            RiskOf::Preview(request) => self.preview(&pin, request, &mut found)?,
            RiskOf::Token(handle) => {
                let missing = || ReportError::NotFound(format!("no token with the handle {handle} is known"));
                let token = pin.token(handle.key()).ok_or_else(missing)?;
                let grant = pin.grant(token.grant).ok_or_else(missing)?;
                found.grant(&pin, &grant, None);
                if let Some(narrowed) = token.narrowed_pairs(&pin) {
                    let given = narrowed.fold(ScopeMask::EMPTY, |sum, pair| sum.union(pair.scopes));
                    found.scopes = found.scopes.intersection(given);
                }
                found.tokens = 1;
                found.bearer = u64::from(!token.is_bound());
                found.last_used = token.last_used(now);
                found.issued = Some(token.times.issued);
                found.ends(earlier(token.times.expiry, grant.facts.expiry));
            }
            RiskOf::Client(name, workspace) => {
                let chosen = Chosen::find(&pin, &ListOf::Client(name.clone()))?;
                let within = workspace.as_ref().map(|name| pin.place_number(name));
                self.of_grants(&pin, &chosen, within, now, &mut found);
            }
            RiskOf::Grant(id) => {
                let chosen = Chosen::find(&pin, &ListOf::Grant(*id))?;
                self.of_grants(&pin, &chosen, None, now, &mut found);
            }
        }
        Ok(found.report(self, &pin, now))
    }

    /// All live grants that are chosen; `within` limits them to one workspace (`Some(None)`: one nobody ever named).
    fn of_grants(
        &self,
        pin: &Pin<'_>,
        chosen: &Chosen,
        within: Option<Option<u32>>,
        now: Timestamp,
        found: &mut Findings,
    ) {
        let counts = |grant: &GrantRecord| match within {
            None => true,
            Some(workspace) => workspace.is_some_and(|workspace| reaches(pin, grant, workspace)),
        };
        let mut chosen_grants = GrantSet::none(pin);
        for grant in chosen.grants(pin).filter(|grant| grant_verdict(pin, grant, now).is_ok() && counts(grant)) {
            found.grant(pin, &grant, within.flatten());
            chosen_grants.add(grant.id.number());
        }
        pin.for_each_token(|token| {
            if !chosen_grants.has(token.grant) {
                return;
            }
            let Some(grant) = pin.grant(token.grant).filter(|grant| is_active(pin, &token, grant, now)) else { return };
            found.tokens += 1;
            found.bearer += u64::from(!token.is_bound());
            found.last_used = found.last_used.max(token.last_used(now));
            found.issued = Some(found.issued.map_or(token.times.issued, |issued| issued.min(token.times.issued)));
            found.ends(earlier(token.times.expiry, grant.facts.expiry));
        });
    }

    /// A grant that is not made yet: what it would reach today, if it were.
    fn preview(&self, pin: &Pin<'_>, request: &ChangeRequest, found: &mut Findings) -> Result<(), ReportError> {
        let ChangeRequest::MakeGrant { subject, access, expiry, .. } = request else {
            return Err(ReportError::Invalid(
                "a preview is of a grant: give subject, client, access and expiry".into(),
            ));
        };
        let access = self.access(access).map_err(|error| ReportError::Invalid(error.to_string()))?;
        found.grants = 1;
        found.bearer = 1;
        found.ends(*expiry);
        for pair in access.pairs() {
            found.scopes = found.scopes.union(pair.scopes);
            match &pair.reach {
                Reach::At(place) => {
                    found.workspaces.insert(place.workspace_str().to_owned());
                    found.places.extend(pin.place_number(place.as_str()));
                }
                Reach::Everywhere => {
                    found.everywhere = true;
                    let number = pin.subject_number(subject.as_str());
                    for (place, member) in number.into_iter().flat_map(|number| pin.memberships(number)) {
                        if member.live {
                            let workspace = pin.workspace_of(place).unwrap_or(place);
                            found.workspaces.insert(pin.place_text(workspace).to_owned());
                            found.places.insert(place);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
