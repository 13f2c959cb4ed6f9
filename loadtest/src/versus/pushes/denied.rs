//! N2: from a revocation to the moment at which a follower's memory does not let the token in any more.
//!
//! A near-cache holds the facts of every token that will be revoked. Its memory is looked at between any two turns of the
//! runtime, never through the server; so what is seen is the announcement itself. That a look at the server then says
//! *inactive* is checked afterwards, for each token. Another connection revokes; the moment of its receipt is noted
//! beside, because durability lies between the two.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokenscope::client::{Client, Decision, NearCache, NearOptions, Revoke, Wait};
use tokenscope::domain::TokenDigest;

use super::probe::{Moments, Seen, Subject, probe};
use crate::churn::{Churn, Made};
use crate::population::Population;
use crate::question::Ask;
use crate::target::Target;

/// How long a follower may take to get its first lease.
const LIVE_WITHIN: Duration = Duration::from_secs(10);

/// Questions that only prepare or check what is timed may take so long.
pub const SET_UP_WITHIN: Duration = Duration::from_secs(10);

/// How long receipts may be waited for.
const RECEIPTS_WITHIN: Duration = Duration::from_secs(20);

/// So many tokens before its turn a token is looked at: one that another's announcement touched is asked for anew.
const AHEAD: usize = 8;

/// A token and what it may do where.
#[derive(Clone)]
pub struct Held {
    digest: TokenDigest,
    scope: &'static str,
    place: Arc<str>,
}

impl Held {
    /// What is asked of a token that was made here.
    ///
    /// # Errors
    /// It is about a place that the population does not have.
    pub fn of(made: &Made, population: &Population) -> Result<Self, String> {
        let Ask::Check { scope, place } = made.question(true).ask else {
            return Err("a token without a check".to_owned());
        };
        let scope = population.scopes.get(usize::from(scope)).copied().ok_or("a scope without a name")?;
        let place = population.places.get(place as usize).ok_or("a place without a name")?;
        Ok(Self { digest: TokenDigest::from_bytes(made.digest), scope, place: place.as_str().into() })
    }

    /// Whether memory lets it in, now and without asking anybody.
    pub fn is_let_in(&self, near: &NearCache) -> bool {
        near.held(self.digest, self.scope, &self.place) == Some(Decision::Allowed)
    }

    /// What the near-cache says, from wherever.
    ///
    /// # Errors
    /// No verdict.
    pub async fn ask(&self, near: &NearCache) -> Result<Decision, String> {
        near.check(self.digest, self.scope, &self.place).await.map_err(|error| error.to_string())
    }

    /// Revokes it.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn revoke(&self, client: &Client, wait: Wait) -> Result<(), String> {
        let receipt = client.revoke_and_wait(Revoke::Token(self.digest.into()), wait).await;
        receipt.map(drop).map_err(|error| error.to_string())
    }
}

/// A follower on a connection of its own, and somebody else who revokes.
pub struct Pair {
    asker: Client,
    near: NearCache,
    revoker: Client,
}

/// What one phase measured.
pub struct Phase {
    /// Due, and denied at the follower.
    pub seen: Seen,
    /// The receipts.
    pub receipts: Vec<Option<Instant>>,
    /// What was not as it has to be.
    pub wrong: Vec<String>,
}

impl Pair {
    /// Connects both, and waits for the follower's lease.
    ///
    /// # Errors
    /// The server refuses one of them.
    pub async fn connect(target: &Target) -> Result<Self, String> {
        let said = |error: tokenscope::client::Error| error.to_string();
        let mut options = target.options(&target.asker);
        options.connections = 1;
        options.deadline = SET_UP_WITHIN;
        let asker = Client::connect(options).await.map_err(said)?;
        let near = NearCache::follow(asker.clone(), NearOptions::default()).map_err(said)?;
        near.live(LIVE_WITHIN).await.map_err(said)?;
        let mut options = target.options(&target.changer);
        options.connections = 1;
        let revoker = Client::connect(options).await.map_err(said)?;
        Ok(Self { asker, near, revoker })
    }

    /// Ends both.
    pub async fn close(self) {
        drop(self.near);
        self.asker.close().await;
        self.revoker.close().await;
    }

    /// Registers a token for each moment, holds it, revokes it then.
    ///
    /// # Errors
    /// The server refuses, or a token is not denied in the end.
    pub async fn measure(
        &self,
        churn: &mut Churn,
        population: &Population,
        moments: &Moments,
        wait: Wait,
    ) -> Result<Phase, String> {
        let made = churn.register_some(moments.len()).await?;
        let tokens: Vec<Held> = made.iter().map(|it| Held::of(it, population)).collect::<Result<_, _>>()?;
        for token in &tokens {
            match token.ask(&self.near).await? {
                Decision::Allowed => {}
                other => return Err(format!("a token that was registered is {other:?}")),
            }
        }
        let receipts: Arc<[OnceLock<Result<Instant, String>>]> = tokens.iter().map(|_| OnceLock::new()).collect();
        let mut subject = Revoking { pair: self, tokens: &tokens, receipts: receipts.clone(), wait };
        let seen = probe(moments, &mut subject).await?;
        let began = Instant::now();
        let is_open = || seen.due.iter().zip(receipts.iter()).any(|(due, it)| due.is_some() && it.get().is_none());
        while is_open() {
            if began.elapsed() > RECEIPTS_WITHIN {
                return Err("receipts are missing".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut wrong = Vec::new();
        let receipts = receipts.iter().map(|receipt| match receipt.get()? {
            Ok(at) => Some(*at),
            Err(why) => {
                wrong.push(why.clone());
                None
            }
        });
        let receipts = receipts.collect();
        for (token, _) in tokens.iter().zip(&seen.due).filter(|(_, due)| due.is_some()) {
            match token.ask(&self.near).await? {
                Decision::Inactive => {}
                other => wrong.push(format!("a revoked token is {other:?}")),
            }
        }
        Ok(Phase { seen, receipts, wrong })
    }
}

/// Tokens whose turn comes.
struct Revoking<'p> {
    pair: &'p Pair,
    tokens: &'p [Held],
    receipts: Arc<[OnceLock<Result<Instant, String>>]>,
    wait: Wait,
}

impl Subject for Revoking<'_> {
    fn act(&mut self, number: usize) -> Result<bool, String> {
        let near = &self.pair.near;
        if let Some(later) = self.tokens.get(number + AHEAD)
            && !later.is_let_in(near)
        {
            // Its facts share a slot with something that was touched.
            let (later, near) = (later.clone(), near.clone());
            tokio::spawn(async move { later.ask(&near).await });
        }
        let token = self.tokens.get(number).ok_or("a token that is none")?;
        if !token.is_let_in(near) {
            return Ok(false);
        }
        let (token, near, client) = (token.clone(), near.clone(), self.pair.revoker.clone());
        let (receipts, wait) = (self.receipts.clone(), self.wait);
        tokio::spawn(async move {
            let revoked = token.revoke(&client, wait).await;
            let at = Instant::now();
            let receipt = match revoked {
                Ok(()) if wait == Wait::Fenced && token.is_let_in(&near) => {
                    Err("a token was let in after its fenced revocation".to_owned())
                }
                revoked => revoked.map(|()| at),
            };
            if let Some(slot) = receipts.get(number) {
                // Written once.
                let _ = slot.set(receipt);
            }
        });
        Ok(true)
    }

    fn is_there(&mut self, number: usize) -> bool {
        self.tokens.get(number).is_none_or(|token| !token.is_let_in(&self.pair.near))
    }
}

impl Held {
    /// Revokes it on a connection of its own, for where time does not matter.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub async fn revoke_with(&self, target: &Target, wait: Wait) -> Result<(), String> {
        let client = Client::connect(target.options(&target.changer)).await.map_err(|error| error.to_string())?;
        self.revoke(&client, wait).await?;
        client.close().await;
        Ok(())
    }
}
