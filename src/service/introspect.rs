//! The questions: what is this token (RFC 7662), and may it do this here?
//!
//! The lines everything else exists for. Both go straight down: caller's right, token, marks, expiry at `now`, grant,
//! membership, policy, [`crate::domain::access`]. Unknown, expired, revoked and "not for you" come out alike.

use super::caller::{AskRight, Caller};
use super::{Refusal, Service};
use crate::domain::access::PairFacts;
use crate::domain::{
    Denial, Expiry, GrantId, Inactive, ScopeMask, ScopePosition, Timestamp, TokenHandle, TokenKey, TokenTimes,
};
use crate::index::{Bound, GrantRecord, Pin, Spot, TokenRecord};

/// How often a question is asked again because several changes went by while it was answered. The last answer is given
/// as it is: every fact in it is at least as new as its revision, but they may be of different moments.
const ATTEMPTS: usize = 16;

/// What an introspection says.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would be an allocation for each answer; it is never kept")]
pub enum Introspection<'p> {
    /// Active, and everything about it.
    Active(ActiveToken<'p>),
    /// Not active. The reason is for the operator's counters; a caller learns nothing but the fact.
    Inactive(Inactive),
}

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allowed,
    /// The token is active, but may not do this here.
    Denied(Denial),
    /// The token is not active. The reason is for the operator's counters.
    Inactive(Inactive),
}

/// How a check names its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeAsked<'a> {
    /// By name.
    Name(&'a str),
    /// By its position in the catalogue.
    Position(ScopePosition),
}

/// How a check names its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceAsked<'a> {
    /// As written: `1579` or `1579/4021`.
    Name(&'a str),
    /// By the number [`Service::place_number`] gave.
    Number(u32),
}

/// Memory that answers are worked out in, kept by a session so that no question allocates once it has grown.
#[derive(Debug, Default)]
pub struct Scratch {
    places: Vec<PlaceScopes>,
}

/// What is effective at one place: its number (`None`: the place that was asked about, which no change named), scopes.
#[derive(Debug, Clone, Copy)]
struct PlaceScopes {
    place: Option<u32>,
    scopes: ScopeMask,
}

/// An active token: everything an answer may say of it. Borrowed from the index for as long as the pin is held.
#[derive(Debug)]
pub struct ActiveToken<'p> {
    /// Its public handle, `jti`.
    pub handle: TokenHandle,
    /// Its grant.
    pub grant: GrantId,
    /// `sub`.
    pub subject: &'p str,
    /// `client_id`.
    pub client: &'p str,
    /// `iat`, `nbf`, `exp`; `exp` is the earlier of the token's and the grant's.
    pub times: TokenTimes,
    /// `cnf`.
    pub confirmation: Option<Bound<'p>>,
    /// What is allowed at *every* place of the token, or at the place that was asked about: the RFC's `scope`. A place
    /// that was granted and is lost (left, blocked) counts: then nothing is allowed at every place.
    pub everywhere: ScopeMask,
    pin: &'p Pin<'p>,
    asked: Option<&'p str>,
    audience: AudienceOf<'p>,
    places: &'p [PlaceScopes],
}

/// What the audience is read from when an answer is written.
struct AudienceOf<'p> {
    token: TokenRecord<'p>,
    grant: GrantRecord,
}

impl std::fmt::Debug for AudienceOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.grant.id.fmt(f)
    }
}

impl<'p> ActiveToken<'p> {
    /// `aud`: the resource servers the token is for.
    pub fn audience(&self) -> impl Iterator<Item = &'p str> + '_ {
        self.pin.audience(Some(&self.audience.token), &self.audience.grant)
    }

    /// The places where the token may do anything, with what it may do there. Never empty; no place twice; in
    /// workspaces the caller may see. A project is listed only if it has more than its workspace or stands alone.
    pub fn places(&self) -> impl ExactSizeIterator<Item = (&'p str, ScopeMask)> + '_ {
        self.places.iter().map(|found| {
            let text = found.place.map_or(self.asked.unwrap_or("?"), |place| self.pin.place_text(place));
            (text, found.scopes)
        })
    }

    /// The names of a set of scopes, for answers in JSON.
    pub fn scope_names<'m>(&self, mask: &'m ScopeMask) -> impl Iterator<Item = &'p str> + use<'p, 'm> {
        self.pin.catalogue().names(mask)
    }
}

/// A token that passed everything that does not depend on a place.
#[derive(Clone, Copy)]
pub(super) struct Alive<'p> {
    pub(super) token: TokenRecord<'p>,
    pub(super) grant: GrantRecord,
}

/// Everything about a token but its places; with `ask`, only if it is for one of the caller's audiences.
pub(super) fn alive<'p>(
    pin: &'p Pin<'_>,
    key: TokenKey,
    ask: Option<&AskRight>,
    now: Timestamp,
) -> Result<Alive<'p>, Inactive> {
    let token = pin.token(key).ok_or(Inactive::Unknown)?;
    if token.is_only_revoked() {
        return Err(Inactive::TokenRevoked);
    }
    let grant = pin.grant(token.grant).ok_or(Inactive::Unknown)?;
    pin.token_facts(&token, &grant).ok_or(Inactive::Unknown)?.verdict(now)?;
    let for_caller =
        ask.is_none_or(|ask| pin.audience(Some(&token), &grant).any(|audience| ask.audiences.includes(audience)));
    if for_caller { Ok(Alive { token, grant }) } else { Err(Inactive::WrongAudience) }
}

/// The pairs of a token that cover a place, cut to what the token was narrowed to.
pub(super) fn covering<'a>(
    pin: &'a Pin<'_>,
    alive: &'a Alive<'_>,
    spot: Spot,
) -> impl Iterator<Item = PairFacts> + use<'a> {
    let narrowed = alive.token.narrowed_at(pin, spot);
    pin.pairs(&alive.grant).filter_map(move |pair| {
        let covers = spot.covered_by(&pair)?;
        let scopes = narrowed.map_or(pair.scopes, |narrowed| pair.scopes.intersection(narrowed));
        Some(PairFacts { covers, since: pair.since, scopes })
    })
}

/// Asks until at most one change went by meanwhile.
pub(super) fn steadily<T>(pin: &Pin<'_>, mut ask: impl FnMut() -> T) -> T {
    for _ in 1..ATTEMPTS {
        let applied = pin.applied();
        let answer = ask();
        if pin.undisturbed_since(applied) {
            return answer;
        }
    }
    ask()
}

/// What the token will have at a place that its subject joins later.
fn elsewhere(pin: &Pin<'_>, alive: &Alive<'_>) -> ScopeMask {
    let everywhere = |sum: ScopeMask, pair: crate::index::PairRecord| match pair.place {
        None => sum.union(pair.scopes),
        Some(_) => sum,
    };
    let granted = pin.pairs(&alive.grant).fold(ScopeMask::EMPTY, everywhere);
    match alive.token.narrowed_pairs(pin) {
        None => granted,
        Some(narrowed) => granted.intersection(narrowed.fold(ScopeMask::EMPTY, everywhere)),
    }
}

/// The places of a token and what is effective there, into `places`. Returns what is allowed at every one of them.
fn effective_places(pin: &Pin<'_>, alive: &Alive<'_>, ask: &AskRight, places: &mut Vec<PlaceScopes>) -> ScopeMask {
    places.clear();
    // A withdrawn scope is nothing that is left. Its place stays a place of the token: withdrawing must not widen what
    // is allowed at every one of them.
    let retired = pin.catalogue().retired();
    let mut everywhere: Option<ScopeMask> = None;
    let mut consider = |place: u32, is_granted: bool| {
        let visible = |workspace: u32| ask.workspaces.includes_found(|| pin.place_text(workspace));
        let Some(spot) = pin.spot_of(place) else { return };
        let known = places.iter().any(|known| known.place == Some(place));
        if known || !spot.workspace.is_some_and(visible) {
            return;
        }
        let granted = covering(pin, alive, spot).fold(ScopeMask::EMPTY, |sum, pair| sum.union(pair.scopes));
        if granted.is_empty() {
            return; // Not a place of this token.
        }
        let scopes = pin.place_facts(&alive.grant, spot).scopes(covering(pin, alive, spot)).without(retired);
        if !scopes.is_empty() {
            places.push(PlaceScopes { place: Some(place), scopes });
        }
        if is_granted || !scopes.is_empty() {
            everywhere = Some(everywhere.map_or(scopes, |all| all.intersection(scopes)));
        }
    };
    // Places the grant or the token names; then those it reaches by a membership: all of them for "everywhere", and
    // single projects of a named workspace for somebody who is a member of no more.
    for pair in pin.pairs(&alive.grant) {
        pair.place.into_iter().for_each(|place| consider(place, true));
    }
    for pair in alive.token.narrowed_pairs(pin).into_iter().flatten() {
        pair.place.into_iter().for_each(|place| consider(place, true));
    }
    for (place, member) in pin.memberships(alive.grant.subject) {
        consider(place, member.live);
    }
    // "Wherever the subject is a member" includes places to come: there only the pairs that say so count.
    let to_come = elsewhere(pin, alive);
    if !to_come.is_empty() {
        let to_come = to_come.without(retired);
        everywhere = Some(everywhere.map_or(to_come, |all| all.intersection(to_come)));
    }
    // A project with nothing beyond its workspace says nothing new.
    let listed = |places: &[PlaceScopes], place: Option<u32>| {
        places.iter().find(|known| known.place == place).map(|known| known.scopes)
    };
    let mut at = 0;
    while at < places.len() {
        let spot = places[at].place.and_then(|place| pin.spot_of(place)).filter(|spot| spot.is_project);
        let around = spot.and_then(|spot| listed(places, spot.workspace));
        match around {
            Some(around) if places[at].scopes.is_within(&around) => {
                places.swap_remove(at);
            }
            _ => at += 1,
        }
    }
    everywhere.unwrap_or(ScopeMask::EMPTY)
}

impl Service {
    /// RFC 7662: what is this token? With `place`, what is it there?
    ///
    /// Without `place`, a token that has nothing left anywhere is inactive. With `place`, [`ActiveToken::everywhere`]
    /// and the places are those of that place alone, and a token with nothing there is inactive.
    ///
    /// # Errors
    /// No verdict: see [`Refusal`].
    pub fn introspect<'p>(
        &self,
        pin: &'p Pin<'p>,
        caller: &Caller,
        key: TokenKey,
        place: Option<&'p str>,
        now: Timestamp,
        scratch: &'p mut Scratch,
    ) -> Result<Introspection<'p>, Refusal> {
        let ask = caller.rights.ask.as_ref().ok_or(Refusal::MayNotAsk)?;
        if place.is_some_and(|place| !caller.may_ask_about(workspace_of(place))) {
            return Err(Refusal::MayNotAskThere);
        }
        let places = &mut scratch.places;
        let found = steadily(pin, || {
            let alive = alive(pin, key, Some(ask), now)?;
            let everywhere = match place {
                None => effective_places(pin, &alive, ask, places),
                Some(place) => {
                    let spot = pin.spot(place);
                    let scopes = pin.place_facts(&alive.grant, spot).scopes(covering(pin, &alive, spot));
                    let scopes = scopes.without(pin.catalogue().retired());
                    places.clear();
                    if !scopes.is_empty() {
                        places.push(PlaceScopes { place: spot.place, scopes });
                    }
                    scopes
                }
            };
            if places.is_empty() { Err(Inactive::NothingLeft) } else { Ok((alive, everywhere)) }
        });
        let (alive, everywhere) = match found {
            Ok(found) => found,
            Err(reason) => return Ok(Introspection::Inactive(reason)),
        };
        alive.token.mark_used(now);
        Ok(Introspection::Active(ActiveToken {
            handle: key.handle(),
            grant: alive.grant.id,
            subject: pin.subject_text(alive.grant.subject),
            client: pin.client_text(alive.grant.client),
            times: TokenTimes {
                expiry: earlier(alive.token.times.expiry, alive.grant.facts.expiry),
                ..alive.token.times
            },
            confirmation: alive.token.bound(pin),
            everywhere,
            pin,
            asked: place,
            audience: AudienceOf { token: alive.token, grant: alive.grant },
            places: &scratch.places,
        }))
    }

    /// May this token do `scope` at `place`?
    ///
    /// # Errors
    /// No verdict: see [`Refusal`].
    #[inline]
    pub fn check(
        &self,
        pin: &Pin<'_>,
        caller: &Caller,
        key: TokenKey,
        scope: ScopeAsked<'_>,
        place: PlaceAsked<'_>,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let ask = caller.rights.ask.as_ref().ok_or(Refusal::MayNotAsk)?;
        let spot = match place {
            PlaceAsked::Name(name) => {
                if !ask.workspaces.includes(workspace_of(name)) {
                    return Err(Refusal::MayNotAskThere);
                }
                pin.spot(name)
            }
            PlaceAsked::Number(number) => {
                let spot = pin.spot_of(number).ok_or(Refusal::MayNotAskThere)?;
                let workspace = || spot.workspace.map_or("?", |workspace| pin.place_text(workspace));
                if !ask.workspaces.includes_found(workspace) {
                    return Err(Refusal::MayNotAskThere);
                }
                spot
            }
        };
        Ok(steadily(pin, || {
            let alive = match alive(pin, key, Some(ask), now) {
                Ok(alive) => alive,
                Err(reason) => return Decision::Inactive(reason),
            };
            alive.token.mark_used(now);
            let position = match scope {
                ScopeAsked::Name(name) => pin.catalogue().position(name),
                ScopeAsked::Position(position) => known(pin, position),
            };
            let Some(position) = position else { return Decision::Denied(Denial::ScopeUnknown) };
            let facts = pin.place_facts(&alive.grant, spot);
            match facts.decide(position, covering(pin, &alive, spot)) {
                Ok(()) => Decision::Allowed,
                Err(denial) => Decision::Denied(denial),
            }
        }))
    }

    /// A short number for a place, good in this epoch: [`PlaceAsked::Number`] spares the server the look-up of the
    /// name. `None`: no change ever named the place.
    pub fn place_number(&self, pin: &Pin<'_>, place: &str) -> Option<u32> {
        pin.place_number(place)
    }

    /// The position of a scope name; `None` if unknown or retired.
    pub fn scope_position(&self, pin: &Pin<'_>, scope: &str) -> Option<ScopePosition> {
        pin.catalogue().position(scope)
    }
}

/// A position that stands for a scope which is not retired.
fn known(pin: &Pin<'_>, position: ScopePosition) -> Option<ScopePosition> {
    let entry = pin.catalogue().entries().get(usize::from(position.number()))?;
    (!entry.retired).then_some(position)
}

pub(super) fn workspace_of(place: &str) -> &str {
    place.split_once('/').map_or(place, |(workspace, _)| workspace)
}

/// The earlier of two ends.
pub(super) fn earlier(a: Expiry, b: Expiry) -> Expiry {
    if a.raw() <= b.raw() { a } else { b }
}
