//! The client library, as an API server would use it: many tasks that share one client, each waiting for its answer.

use std::rc::Rc;
use std::sync::Arc;

use tokenscope::client::{Client, Decision, Error, Token, Verdict};
use tokenscope::domain::TokenDigest;
use tokenscope::wire::ErrorCode;

use super::native::owner_of;
use super::{Asker, Driver, Local, Opened, Share};
use crate::population::Population;
use crate::question::{Ask, Question, Refused, Said};
use crate::target::Target;

/// The client library.
pub struct Library {
    target: Target,
    population: Arc<Population>,
}

impl Library {
    /// A driver that asks `target`.
    pub fn new(target: Target, population: Arc<Population>) -> Self {
        Self { target, population }
    }
}

impl Driver for Library {
    fn name(&self) -> String {
        "client".to_owned()
    }

    fn open(&self, share: Share) -> Local<'_, Result<Opened, String>> {
        Box::pin(async move {
            let mut options = self.target.options(&self.target.asker);
            options.connections = share.connections;
            // Overload has to show as latency here, not as a deadline.
            options.deadline = std::time::Duration::from_secs(10);
            let client = Client::connect(options).await.map_err(|error| error.to_string())?;
            let asker: Rc<dyn Asker> = Rc::new(Ours { client, population: self.population.clone() });
            Ok(Opened::Askers(vec![asker; share.connections * share.in_flight]))
        })
    }
}

struct Ours {
    client: Client,
    population: Arc<Population>,
}

impl Asker for Ours {
    fn ask(&self, question: Question) -> Local<'_, Said> {
        Box::pin(async move {
            let token: Token = TokenDigest::from_bytes(question.digest).into();
            let said = match question.ask {
                Ask::Introspect => self.client.introspect(token).await.map(|verdict| match verdict {
                    Verdict::Inactive => Said::Inactive,
                    Verdict::Active(it) => Said::Active { expiry: it.times.expiry.raw(), owner: owner_of(&it.subject) },
                }),
                Ask::Check { scope, place } => {
                    let scope = self.population.scopes.get(usize::from(scope)).copied().unwrap_or("no:scope");
                    let place = self.population.places.get(place as usize).map_or("0", String::as_str);
                    self.client.check(token, scope, place).await.map(|decision| match decision {
                        Decision::Allowed => Said::Allowed,
                        Decision::Denied(_) => Said::Denied,
                        Decision::Inactive => Said::Inactive,
                    })
                }
            };
            said.unwrap_or_else(|error| {
                Said::Refused(match error {
                    Error::Timeout => Refused::Deadline,
                    Error::Overloaded => Refused::Code(ErrorCode::Overloaded as u8),
                    Error::Refused { code, .. } => Refused::Code(code as u8),
                    _ => Refused::Other,
                })
            })
        })
    }
}
