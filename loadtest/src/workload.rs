//! Which token is asked about, and what: seeded, so that the same seed asks the same questions.
//!
//! Questions are drawn a block at a time, because with more tokens than the cache holds each draw is a read from
//! memory, and reads that do not wait for each other cost a tenth of those that do.

use std::str::FromStr;
use std::sync::Arc;

use tokenscope::samples::random::Random;

use crate::churn::Pool;
use crate::population::{NO_SCOPE, Population, Token};
use crate::question::{ANYBODY, Ask, Expect, Origin, Question, Verdict, mark};
use crate::zipf::Zipf;

/// Questions drawn at once.
const BLOCK: usize = 64;

/// Which tokens are popular.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Popularity {
    /// All alike.
    Uniform,
    /// A few very, most hardly: Zipf's law with exponent 0.99, scattered over the population.
    Zipf,
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Asking {
    /// What is this token?
    Introspect,
    /// May it do this here? By numbers.
    Check,
    /// The same by names.
    CheckNames,
}

/// Shares of kinds of tokens. They need not add up to a hundred.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Mix {
    /// Active tokens.
    pub hit: f64,
    /// Tokens nobody knows.
    pub unknown: f64,
    /// Expired ones.
    pub expired: f64,
    /// Revoked ones.
    pub revoked: f64,
    /// Of the checks of active tokens, those that have to be denied.
    pub denied: f64,
}

impl Default for Mix {
    /// 90, 8, 0, 2, as in the goals.
    fn default() -> Self {
        Self { hit: 90.0, unknown: 8.0, expired: 0.0, revoked: 2.0, denied: 0.0 }
    }
}

impl FromStr for Mix {
    type Err = String;

    /// `hit=90,unknown=8,revoked=2`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Self { hit: 0.0, unknown: 0.0, expired: 0.0, revoked: 0.0, denied: 0.0 };
        for part in text.split(',') {
            let wrong = || format!("{part:?}: write hit=90,unknown=8,expired=0,revoked=2,denied=0");
            let (name, share) = part.split_once('=').ok_or_else(wrong)?;
            let share: f64 = share.parse().ok().filter(|it: &f64| (0.0..=1e6).contains(it)).ok_or_else(wrong)?;
            match name {
                "hit" => mix.hit = share,
                "unknown" => mix.unknown = share,
                "expired" => mix.expired = share,
                "revoked" => mix.revoked = share,
                "denied" => mix.denied = share,
                _ => return Err(wrong()),
            }
        }
        if mix.hit + mix.unknown + mix.expired + mix.revoked + mix.denied > 0.0 {
            Ok(mix)
        } else {
            Err("an empty mix".into())
        }
    }
}

/// Draws questions.
pub struct Workload {
    population: Arc<Population>,
    pool: Arc<Pool>,
    asking: Asking,
    zipf: Option<Zipf>,
    /// Upper ends of the shares, in 2⁻⁶⁴: hit, unknown, expired, revoked; what is left is checks to be denied.
    ends: [u64; 4],
    random: Random,
    drawn: Vec<Question>,
    /// Questions until the next one about a token that was registered while the run lasts.
    until_live: u32,
}

/// One hit in so many is about a token that was registered while the run lasts, if there are any.
const LIVE_EVERY: u32 = 64;

impl Workload {
    /// A workload whose questions depend on `seed` and `worker` alone, as far as nothing is changed while it runs.
    ///
    /// # Errors
    /// The mix wants what the population does not have.
    pub fn new(
        population: Arc<Population>,
        pool: Arc<Pool>,
        (asking, popularity, mix): (Asking, Popularity, Mix),
        seed: u64,
        worker: usize,
    ) -> Result<Self, String> {
        let (hits, expired) = (population.hits.len(), population.expired.len());
        if (mix.hit > 0.0 || mix.denied > 0.0) && hits == 0 {
            return Err("no token of the sample data stays active until the run is over: it was made too long ago. \
                        Make a new data directory"
                .to_owned());
        }
        if mix.expired > 0.0 && expired == 0 {
            return Err("the sample data has no expired token; make it larger, or set expired=0".to_owned());
        }
        if mix.revoked > 0.0 && pool.is_empty() {
            return Err("no token was revoked beforehand, so revoked has to be 0 in the mix".to_owned());
        }
        if mix.denied > 0.0 && asking == Asking::Introspect {
            return Err("only a check can be denied; set denied=0, or ask checks".to_owned());
        }
        let all = mix.hit + mix.unknown + mix.expired + mix.revoked + mix.denied;
        let mut sum = 0.0;
        let ends = [mix.hit, mix.unknown, mix.expired, mix.revoked].map(|share| {
            sum += share;
            // A float beyond the range becomes the largest number, which is what a full share is.
            (sum / all * u64::MAX as f64) as u64
        });
        Ok(Self {
            zipf: (popularity == Popularity::Zipf).then(|| Zipf::new(hits as u64)),
            random: Random::of(seed ^ 0x776f_726b_6c6f_6164, worker as u64),
            drawn: Vec::with_capacity(BLOCK),
            until_live: LIVE_EVERY,
            population,
            pool,
            asking,
            ends,
        })
    }

    /// The next question.
    pub fn next(&mut self) -> Question {
        self.until_live -= 1;
        if self.until_live == 0 {
            self.until_live = LIVE_EVERY;
            // Never drawn ahead: such a token is asked about for a short while only.
            if let Some(made) = self.pool.live(self.random.bits()) {
                return made.question(self.asking != Asking::Introspect);
            }
        }
        loop {
            if let Some(question) = self.drawn.pop() {
                return question;
            }
            self.draw();
        }
    }

    fn draw(&mut self) {
        for _ in 0..BLOCK {
            let kind = self.random.bits();
            let [hit, unknown, expired, revoked] = self.ends;
            let question = if kind <= hit {
                let number = self.hit_number();
                self.about(number, false)
            } else if kind <= unknown {
                self.unknown()
            } else if kind <= expired {
                let number = self.random.below(self.population.expired.len() as u64) as usize;
                self.population.expired.get(number).map(|token| Question {
                    digest: token.digest,
                    origin: token.origin(),
                    ask: self.ask_of(token, false),
                    expect: Expect::inactive(&token.digest),
                })
            } else if kind <= revoked {
                self.revoked()
            } else {
                let number = self.hit_number();
                self.about(number, true)
            };
            self.drawn.extend(question);
        }
    }

    fn hit_number(&mut self) -> usize {
        let hits = self.population.hits.len() as u64;
        match &self.zipf {
            None => self.random.below(hits) as usize,
            // The popular ones lie anywhere, not side by side.
            Some(zipf) => (zipf.rank(&mut self.random).wrapping_mul(0x9e37_79b9_7f4a_7c15) % hits) as usize,
        }
    }

    fn about(&self, number: usize, denied: bool) -> Option<Question> {
        let token = self.population.hits.get(number)?;
        let ask = self.ask_of(token, denied);
        let verdict = match (ask, denied && token.denied != NO_SCOPE) {
            (Ask::Introspect, _) => Verdict::Active,
            (Ask::Check { .. }, false) => Verdict::Allowed,
            (Ask::Check { .. }, true) => Verdict::Denied,
        };
        let expect = Expect { verdict, expiry: token.expiry, owner: token.owner, mark: mark(&token.digest) };
        Some(Question { digest: token.digest, origin: token.origin(), ask, expect })
    }

    fn ask_of(&self, token: &Token, denied: bool) -> Ask {
        match self.asking {
            Asking::Introspect => Ask::Introspect,
            Asking::Check | Asking::CheckNames => {
                let scope = if denied && token.denied != NO_SCOPE { token.denied } else { token.scope };
                Ask::Check { scope, place: token.place }
            }
        }
    }

    /// A token nobody knows, asked about at the place of somebody else's.
    fn unknown(&mut self) -> Option<Question> {
        let mut digest = [0; 32];
        digest.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.random.bits().to_le_bytes()));
        let origin = Origin { owner: self.random.bits() | 1 << 63, number: 0 };
        let ask = self.ask_somewhere();
        Some(Question { digest, origin, ask, expect: Expect::inactive(&digest) })
    }

    fn revoked(&mut self) -> Option<Question> {
        let draw = self.random.bits();
        let token = self.pool.revoked(draw)?;
        let expect = Expect { owner: ANYBODY, ..Expect::inactive(&token.digest) };
        Some(Question { digest: token.digest, origin: token.origin, ask: self.ask_somewhere(), expect })
    }

    fn ask_somewhere(&mut self) -> Ask {
        let number = self.random.below(self.population.hits.len() as u64) as usize;
        match (self.asking, self.population.hits.get(number)) {
            (Asking::Introspect, _) | (_, None) => Ask::Introspect,
            (_, Some(token)) => Ask::Check { scope: token.scope, place: token.place },
        }
    }
}
