//! A fake for the tests of API servers: says what it was told to say, in memory, with no server anywhere.
//!
//! ```
//! use tokenscope::client::{Checks, Decision, Fake};
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let fake = Fake::new();
//! fake.allow("a token", "tasks:read", "1579");
//! assert_eq!(fake.check("a token".into(), "tasks:read", "1579/4021").await, Ok(Decision::Allowed));
//! fake.revoke("a token");
//! assert_eq!(fake.check("a token".into(), "tasks:read", "1579").await, Ok(Decision::Inactive));
//! fake.is_down(true);
//! assert!(fake.check("a token".into(), "tasks:read", "1579").await.is_err());
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! It knows what covers what, and the three outcomes. It knows no memberships and policies: what they come to is said by
//! [`Fake::deny`]. Whose token it is is said by [`Fake::belongs`]; of everything else in an introspection it tells the least.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::answer::{Decision, Error, Introspection, Token, Verdict};
use super::{Checks, Introspects};
use crate::domain::{
    Denial, Epoch, Expiry, GrantId, Place, Revision, ScopeMask, Sequence, Timestamp, TokenDigest, TokenKey, TokenTimes,
};

/// Says what it was told to say. Cheap to clone; all clones are the same one.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    tokens: HashMap<TokenDigest, Vec<Rule>>,
    /// Subject and client.
    owners: HashMap<TokenDigest, (String, String)>,
    down: bool,
}

struct Rule {
    place: String,
    says: Says,
}

enum Says {
    Allows(String),
    Denies(Denial),
}

impl Fake {
    /// One that knows no token.
    pub fn new() -> Self {
        Self::default()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rule(&self, token: Token, place: &str, says: Says) {
        self.told().tokens.entry(token.0).or_default().push(Rule { place: place.to_owned(), says });
    }

    /// The token is active, and may do `scope` at `place` and in the projects of it.
    pub fn allow(&self, token: impl Into<Token>, scope: &str, place: &str) {
        self.rule(token.into(), place, Says::Allows(scope.to_owned()));
    }

    /// The token is active, and may do nothing at `place` and in the projects of it, for this reason.
    pub fn deny(&self, token: impl Into<Token>, place: &str, reason: Denial) {
        self.rule(token.into(), place, Says::Denies(reason));
    }

    /// What an introspection says of the token while it is active: its subject and its client.
    pub fn belongs(&self, token: impl Into<Token>, subject: &str, client: &str) {
        self.told().owners.insert(token.into().0, (subject.to_owned(), client.to_owned()));
    }

    /// The token is not active any more.
    pub fn revoke(&self, token: impl Into<Token>) {
        self.told().tokens.remove(&token.into().0);
    }

    /// Whether there are no verdicts at all, as when no server can be reached.
    pub fn is_down(&self, down: bool) {
        self.told().down = down;
    }

    fn introspect(&self, token: Token) -> Result<Verdict, Error> {
        let told = self.told();
        if told.down {
            return Err(Error::Unavailable("the fake is down".to_owned()));
        }
        if !told.tokens.contains_key(&token.0) {
            return Ok(Verdict::Inactive);
        }
        let unsaid = || Error::Unavailable("the fake was not told whose token this is: Fake::belongs".to_owned());
        let (Some(owner), Some(grant)) = (told.owners.get(&token.0), GrantId::new(1)) else { return Err(unsaid()) };
        let (subject, client) = owner.clone();
        let key = token.0.as_bytes().first_chunk().map_or([0; 16], |bytes| *bytes);
        Ok(Verdict::Active(Box::new(Introspection {
            revision: Revision { epoch: Epoch(1), sequence: Sequence(1) },
            handle: TokenKey::from_bytes(key).handle(),
            grant,
            subject,
            client,
            times: TokenTimes { issued: Timestamp::ZERO, not_before: Timestamp::ZERO, expiry: Expiry::Never },
            confirmation: None,
            everywhere: ScopeMask::EMPTY,
            audience: Vec::new(),
            places: Vec::new(),
        })))
    }

    fn decide(&self, token: Token, scope: &str, place: &str) -> Result<Decision, Error> {
        let told = self.told();
        if told.down {
            return Err(Error::Unavailable("the fake is down".to_owned()));
        }
        let Some(rules) = told.tokens.get(&token.0) else { return Ok(Decision::Inactive) };
        let asked = Place::parse(place).ok();
        let covers = |rule: &&Rule| match (&asked, Place::parse(&rule.place)) {
            (Some(asked), Ok(place)) => place.covers(asked),
            _ => false,
        };
        let mut decision = Decision::Denied(Denial::PlaceNotGranted);
        for rule in rules.iter().filter(covers) {
            match &rule.says {
                Says::Denies(reason) => return Ok(Decision::Denied(*reason)),
                Says::Allows(allowed) if allowed == scope => decision = Decision::Allowed,
                Says::Allows(_) if decision.is_allowed() => {}
                Says::Allows(_) => decision = Decision::Denied(Denial::ScopeNotGranted),
            }
        }
        Ok(decision)
    }
}

impl Checks for Fake {
    fn check(&self, token: Token, scope: &str, place: &str) -> impl Future<Output = Result<Decision, Error>> + Send {
        ready(self.decide(token, scope, place))
    }
}

impl Introspects for Fake {
    fn introspect_at(&self, token: Token, _: &str) -> impl Future<Output = Result<Verdict, Error>> + Send {
        ready(self.introspect(token))
    }
}
