//! The client library: ask about tokens and change what is known of them, over the native protocol.
//!
//! ```no_run
//! # async fn example(ca: Vec<u8>, certificate: Vec<u8>, key: Vec<u8>) -> Result<(), tokenscope::client::Error> {
//! use tokenscope::client::{Client, Options};
//! let servers = vec![(([127, 0, 0, 1], 4433).into(), "localhost".to_owned())];
//! let client = Client::connect(Options::new(servers, ca, certificate, key)).await?;
//! if client.check("tks_…", "tasks:write", "1579/4021").await?.is_allowed() {
//!     // do it
//! }
//! # Ok(()) }
//! ```
//!
//! * A few connections, kept up, spread over the servers. Callers on many tasks share them; what they ask at the same
//!   time travels in the same packet, without anybody waiting for anybody.
//! * Every call has a deadline. A question moves to another connection within it; a change is sent once.
//! * Three outcomes, never folded into two: active, inactive, and an [`Error`], which is neither and lets nobody in.
//! * Tokens are hashed on the way in; what travels is SHA-256.
//! * By default a client sees its own changes: questions after a change demand its revision.
//!
//! Needs a tokio runtime with time and I/O. Nothing is kept, unless a [`near::NearCache`] is put in front, which answers
//! from memory. With the feature `tower` there is a layer that protects routes, with `axum` an argument of handlers that does.

// Bytes from outside are read here: nothing may be able to panic on them.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice))]
#![expect(clippy::disallowed_methods, reason = "the client keeps deadlines")]

// What goes in and comes out.
mod answer;
// Whoever decides.
mod checks;
// How to connect.
mod dial;
// One that says what it was told to say.
mod fake;
// Protecting routes of API servers.
#[cfg(feature = "tower")]
pub mod layer;
// One connection, kept up.
mod link;
// Answers from the caller's own memory.
pub mod near;
// How a client is set up.
mod options;
// Who waits for which answer.
mod reply;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

pub use answer::{ApiAnswer, Catalogue, Decision, Error, ErrorCode, Introspection, Numbers, Receipt, Token, Verdict};
pub use checks::{Checks, Introspects};
pub use fake::Fake;
pub use near::{NearCache, NearOptions};
pub use options::{Options, OwnChanges};

pub use crate::wire::Wait;

use crate::domain::{Epoch, GrantId, Revision, ScopePosition, TokenDigest, TokenHandle, TokenTimes};
use crate::wire::encode::{self, TooLong};
use crate::wire::message::{Binding, Envelope, Method, Outcome, Registration, Request, Revocation};
use dial::Dial;
use link::{Common, Demand, Failure, Job, Link};
use reply::{Reply, Said};

/// Questions of a batch that travel together.
const CHUNK: usize = 256;

/// How long [`Client::close`] waits for what is in flight.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// A client. Cheap to clone; the connections end with the last clone, as long as the runtime goes on. Before a runtime
/// ends, [`Client::close`] tells the servers; a server that was not told keeps the places of the connections until it
/// notices the silence.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    options: Options,
    common: Arc<Common>,
    links: Vec<Link>,
    next: AtomicUsize,
}

/// What to revoke. Wider selectors go through [`Client::api`], which knows a dry run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoke {
    /// This token. An unknown one is no error.
    Token(Token),
    /// The token with this handle.
    Handle(TokenHandle),
    /// This grant, with all its tokens.
    Grant(GrantId),
}

/// A token to register, by its digest.
#[derive(Clone, Debug, PartialEq)]
pub struct NewToken {
    /// The token.
    pub token: Token,
    /// Its grant.
    pub grant: GrantId,
    /// `iat`, `nbf`, `exp`.
    pub times: TokenTimes,
    /// What it is bound to.
    pub confirmation: Option<crate::domain::Confirmation>,
    /// The resource servers it is for; `None`: the grant's.
    pub audience: Option<Vec<String>>,
}

/// What a near-cache asks for and is told.
struct FactsAnswer {
    facts: Option<Box<near::Facts>>,
    /// What the scope's name was resolved at.
    scope: Revision,
    position: Option<ScopePosition>,
}

/// What a request is, as far as trying again is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Question,
    Change,
}

impl Client {
    /// Connects, and returns as soon as one connection is up.
    ///
    /// # Errors
    /// [`Error::Options`]: certificates or key are not in order. Otherwise why no server could be reached within the
    /// connect deadline.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let deadline = Instant::now() + options.connect_deadline;
        let client = Self::start(options)?;
        client.0.up(deadline, None).await?;
        Ok(client)
    }

    /// Begins to connect and returns at once; questions wait for a connection within their deadline.
    ///
    /// # Errors
    /// [`Error::Options`]: certificates or key are not in order.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(options: Options) -> Result<Self, Error> {
        if options.servers.is_empty() {
            return Err(Error::Options("no server is named".to_owned()));
        }
        let common = Arc::new(Common {
            dial: Dial::new(&options)?,
            servers: options.servers.clone(),
            connect_deadline: options.connect_deadline,
            backoff_max: options.backoff_max,
            in_flight_max: options.in_flight_max.clamp(1, 32_768),
            floor: Mutex::new(None),
            floor_seen: Default::default(),
            changed: watch::channel(0).0,
            closing: watch::channel(false).0,
        });
        let links = (0..options.connections.clamp(1, 64))
            .map(|first| Link::start(common.clone(), first, options.queue_max))
            .collect();
        Ok(Self(Arc::new(Inner { options, common, links, next: AtomicUsize::new(0) })))
    }

    /// Takes no more requests, on any clone; waits for the answers to those in flight, for a second at most; closes the
    /// connections, so that the servers know at once. Requests made later fail with [`Error::Closed`].
    pub async fn close(&self) {
        self.0.common.closing.send_replace(true);
        let deadline = Instant::now() + CLOSE_DEADLINE;
        for mut task in self.0.links.iter().filter_map(Link::take_task) {
            if timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
    }

    /// RFC 7662's question: what is this token?
    ///
    /// # Errors
    /// No verdict; see [`Error`].
    pub async fn introspect(&self, token: impl Into<Token>) -> Result<Verdict, Error> {
        self.introspect_as(token.into(), None, None).await
    }

    /// What is this token at this place?
    ///
    /// # Errors
    /// No verdict; see [`Error`].
    pub async fn introspect_at(&self, token: impl Into<Token>, place: &str) -> Result<Verdict, Error> {
        self.introspect_as(token.into(), Some(place), None).await
    }

    /// The same with everything said: a place or none, a revision the answer must have reached or none.
    ///
    /// # Errors
    /// No verdict; see [`Error`].
    pub async fn introspect_as(
        &self,
        token: Token,
        place: Option<&str>,
        least: Option<Revision>,
    ) -> Result<Verdict, Error> {
        let request = Request::Introspect { digest: token.0, place };
        verdict(self.one(&request, Sort::Question, self.0.demand(least), None).await?)
    }

    /// May this token do `scope` at `place`?
    ///
    /// # Errors
    /// No verdict; see [`Error`].
    pub async fn check(&self, token: impl Into<Token>, scope: &str, place: &str) -> Result<Decision, Error> {
        self.check_as(token.into(), scope, place, None).await
    }

    /// The same, answered at `least` or later.
    ///
    /// # Errors
    /// No verdict; see [`Error`].
    pub async fn check_as(
        &self,
        token: Token,
        scope: &str,
        place: &str,
        least: Option<Revision>,
    ) -> Result<Decision, Error> {
        let request = Request::CheckNames { digest: token.0, scope, place };
        decision(self.one(&request, Sort::Question, self.0.demand(least), None).await?)
    }

    /// The same by numbers, which [`Client::resolve`] gives: the fewest bytes and the least work for the server.
    ///
    /// # Errors
    /// No verdict; see [`Error`]. Numbers of another epoch are refused as *not found*.
    pub async fn check_numbers(&self, token: impl Into<Token>, numbers: Numbers) -> Result<Decision, Error> {
        let scope = ScopePosition::new(numbers.scope);
        let request = Request::CheckNumbers { digest: token.into().0, scope, place: numbers.place };
        decision(self.one(&request, Sort::Question, self.0.demand(None), Some(numbers.epoch)).await?)
    }

    /// The numbers of a scope and a place. `None`: the server has never heard of one of them, so every check would be
    /// denied for now.
    ///
    /// # Errors
    /// No answer; see [`Error`].
    pub async fn resolve(&self, scope: &str, place: &str) -> Result<Option<Numbers>, Error> {
        let requests = [Request::ResolveScope(scope), Request::ResolvePlace(place)];
        let replies = self.several(&requests, self.0.demand(None)).await?;
        let mut numbers = Vec::with_capacity(2);
        let mut epoch = Epoch::default();
        for reply in replies {
            epoch = reply.revision.epoch;
            match reply.said {
                Said::Resolved(number) => numbers.push(number),
                other => return Err(unexpected(other)),
            }
        }
        Ok(match numbers.as_slice() {
            [Some(scope), Some(place)] => {
                u8::try_from(*scope).ok().map(|scope| Numbers { epoch, scope, place: *place })
            }
            _ => None,
        })
    }

    /// Many introspections at once, in the order of `tokens`.
    ///
    /// # Errors
    /// None could be asked. A single one that has no verdict has its own error in the list.
    pub async fn introspect_many(&self, tokens: &[Token]) -> Result<Vec<Result<Verdict, Error>>, Error> {
        let requests = tokens.iter().map(|token| Request::Introspect { digest: token.0, place: None });
        Ok(self.many(requests).await?.into_iter().map(|reply| reply.and_then(verdict)).collect())
    }

    /// Many checks at once: token, scope and place each; in their order.
    ///
    /// # Errors
    /// As [`Client::introspect_many`].
    pub async fn check_many(&self, checks: &[(Token, &str, &str)]) -> Result<Vec<Result<Decision, Error>>, Error> {
        let requests = checks.iter().map(|(token, scope, place)| Request::CheckNames { digest: token.0, scope, place });
        Ok(self.many(requests).await?.into_iter().map(|reply| reply.and_then(decision)).collect())
    }

    /// All scope names by position.
    ///
    /// # Errors
    /// No answer; see [`Error`].
    pub async fn catalogue(&self) -> Result<Catalogue, Error> {
        let mut names: Vec<(String, bool)> = Vec::new();
        while let Ok(from) = u8::try_from(names.len()) {
            let request = Request::Catalogue { from };
            match self.one(&request, Sort::Question, self.0.demand(None), None).await?.said {
                Said::Names { first, total, names: page } if first == from => {
                    let last = page.is_empty() || names.len() + page.len() >= usize::from(total);
                    names.extend(page);
                    if last {
                        break;
                    }
                }
                other => return Err(unexpected(other)),
            }
        }
        Ok(Catalogue { names })
    }

    /// Revokes. When this returns, no server that is asked with this client's memory of its own changes lets it pass.
    ///
    /// # Errors
    /// See [`Error`]; after [`Error::Timeout`] the outcome is not known, and revoking again is safe.
    pub async fn revoke(&self, what: Revoke) -> Result<Receipt, Error> {
        self.revoke_and_wait(what, Wait::Applied).await
    }

    /// Revokes, and waits for more: after [`Wait::Fenced`] no near-cache anywhere lets it pass either. That takes one
    /// lease at most, whoever stalls, and usually a round trip.
    ///
    /// # Errors
    /// As [`Client::revoke`]. A fence that takes longer than the deadline for changes is a time-out.
    pub async fn revoke_and_wait(&self, what: Revoke, wait: Wait) -> Result<Receipt, Error> {
        let revocation = match what {
            Revoke::Token(token) => Revocation::Digest(token.0),
            Revoke::Handle(handle) => Revocation::Handle(handle),
            Revoke::Grant(grant) => Revocation::Grant(grant),
        };
        self.change(&Request::Revoke(revocation, wait)).await
    }

    /// Makes a token known.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn register(&self, new: &NewToken) -> Result<Receipt, Error> {
        use crate::domain::Confirmation;
        let mut listed = Vec::new();
        let audience = match &new.audience {
            None => None,
            Some(names) => {
                Some(encode::audiences(&mut listed, names.iter().map(String::as_str)).map_err(cannot_be_sent)?)
            }
        };
        let binding = new.confirmation.as_ref().map(|confirmation| match confirmation {
            Confirmation::Certificate(hash) => Binding::Certificate(*hash),
            Confirmation::DpopKey(hash) => Binding::DpopKey(*hash),
            Confirmation::Other(json) => Binding::Other(json),
        });
        let registration = Registration { digest: new.token.0, grant: new.grant, times: new.times, binding, audience };
        self.change(&Request::Register(registration)).await
    }

    /// A request to the JSON API (`/v1/…`): every other change, and every list. Only `GET` is tried again.
    ///
    /// # Errors
    /// See [`Error`]; a status of 400 and above is an answer, not an error.
    pub async fn api(&self, method: &str, path: &str, body: &[u8]) -> Result<ApiAnswer, Error> {
        let Some(method) = Method::parse(method) else {
            return Err(Error::Options(format!(
                "{method:?} is no method of the API; use GET, POST, PUT, PATCH or DELETE"
            )));
        };
        let sort = if method == Method::Get { Sort::Question } else { Sort::Change };
        let reply = self.one(&Request::Api { method, path, body }, sort, Demand::Nothing, None).await?;
        match reply.said {
            Said::Api { status, body } => {
                if sort == Sort::Change {
                    self.0.common.raise_floor(reply.revision);
                }
                Ok(ApiAnswer { status, body })
            }
            other => Err(unexpected(other)),
        }
    }

    /// The revision later questions demand, if this client has made a change.
    pub fn remembered(&self) -> Option<Revision> {
        self.0.common.floor()
    }

    /// Demands of later questions at least this revision too: for changes that somebody else has told of.
    pub fn remember(&self, revision: Revision) {
        self.0.common.raise_floor(revision);
    }

    /// What decides about a token at a place, and what a scope's name stands for, asked together. No facts: the token
    /// is not active.
    async fn facts(&self, token: Token, scope: &str, place: &str) -> Result<FactsAnswer, Error> {
        let requests = [Request::Facts { digest: token.0, place }, Request::ResolveScope(scope)];
        let mut replies = self.several(&requests, self.0.demand(None)).await?.into_iter();
        let (Some(facts), Some(scope)) = (replies.next(), replies.next()) else {
            return Err(Error::Protocol("an answer is missing".to_owned()));
        };
        let facts = match facts.said {
            Said::Facts(facts) => Some(facts),
            Said::Inactive => None,
            other => return Err(unexpected(other)),
        };
        match scope.said {
            Said::Resolved(position) => {
                let position = position.and_then(|number| u8::try_from(number).ok()).map(ScopePosition::new);
                Ok(FactsAnswer { facts, scope: scope.revision, position })
            }
            other => Err(unexpected(other)),
        }
    }

    /// The connection of a link that is up, not of `avoid` if there is another, once there is one.
    async fn connection(&self, deadline: Instant, avoid: Option<usize>) -> Result<(usize, quinn::Connection), Error> {
        let number = self.0.up(deadline, avoid).await?;
        let state = self.0.links.get(number).map(|link| &link.state);
        let connection = state.and_then(|state| state.connection.lock().ok()?.clone());
        connection.map(|connection| (number, connection)).ok_or_else(|| Error::Unavailable("it is gone".to_owned()))
    }

    async fn change(&self, request: &Request<'_>) -> Result<Receipt, Error> {
        let reply = self.one(request, Sort::Change, Demand::Nothing, None).await?;
        match reply.said {
            Said::Done { handle, grant } => {
                self.0.common.raise_floor(reply.revision);
                Ok(Receipt { revision: reply.revision, handle, grant })
            }
            other => Err(unexpected(other)),
        }
    }

    async fn one(
        &self,
        request: &Request<'_>,
        sort: Sort,
        demand: Demand,
        epoch: Option<Epoch>,
    ) -> Result<Reply, Error> {
        let mut bytes = Vec::with_capacity(64);
        encode::request(&mut bytes, &unaddressed(*request)).map_err(cannot_be_sent)?;
        let slow = sort == Sort::Change || matches!(request, Request::Api { .. });
        let mut replies = self.0.ask(bytes, 1, sort, slow, demand, epoch).await?;
        let reply = replies.pop().ok_or_else(|| Error::Protocol("an answer is missing".to_owned()))?;
        match reply.said {
            Said::Error { code, text } => Err(Error::from_code(code, &text)),
            said => Ok(Reply { revision: reply.revision, said }),
        }
    }

    async fn several(&self, requests: &[Request<'_>], demand: Demand) -> Result<Vec<Reply>, Error> {
        let mut bytes = Vec::with_capacity(64 * requests.len());
        for request in requests {
            encode::request(&mut bytes, &unaddressed(*request)).map_err(cannot_be_sent)?;
        }
        self.0.ask(bytes, requests.len(), Sort::Question, false, demand, None).await
    }

    /// Asks many questions, a chunk of them in each job, all chunks at once.
    async fn many<'r>(
        &self,
        requests: impl ExactSizeIterator<Item = Request<'r>>,
    ) -> Result<Vec<Result<Reply, Error>>, Error> {
        let total = requests.len();
        let mut chunks = JoinSet::new();
        let mut requests = requests.peekable();
        let mut number = 0;
        while requests.peek().is_some() {
            let mut bytes = Vec::with_capacity(CHUNK * 64);
            let mut count = 0;
            for request in requests.by_ref().take(CHUNK) {
                encode::request(&mut bytes, &unaddressed(request)).map_err(cannot_be_sent)?;
                count += 1;
            }
            let (client, demand) = (self.clone(), self.0.demand(None));
            let place = number;
            chunks.spawn(async move {
                (place, count, client.0.ask(bytes, count, Sort::Question, false, demand, None).await)
            });
            number += 1;
        }
        let mut answered: Vec<Vec<Result<Reply, Error>>> = (0..number).map(|_| Vec::new()).collect();
        while let Some(joined) = chunks.join_next().await {
            let Ok((place, count, replies)) = joined else { continue };
            let Some(slot) = answered.get_mut(place) else { continue };
            *slot = match replies {
                Ok(replies) => replies
                    .into_iter()
                    .map(|reply| match reply.said {
                        Said::Error { code, text } => Err(Error::from_code(code, &text)),
                        said => Ok(Reply { revision: reply.revision, said }),
                    })
                    .collect(),
                Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
            };
        }
        let answered: Vec<_> = answered.into_iter().flatten().collect();
        if answered.len() == total { Ok(answered) } else { Err(Error::Protocol("answers are missing".to_owned())) }
    }
}

impl Inner {
    fn demand(&self, least: Option<Revision>) -> Demand {
        match (least, self.options.own_changes) {
            (Some(least), _) => Demand::AtLeast(least),
            (None, OwnChanges::Seen) => Demand::OwnChanges,
            (None, OwnChanges::NotDemanded) => Demand::Nothing,
        }
    }

    /// Sends a job by one link, and by another if that fails and may be repeated, within the deadline.
    async fn ask(
        &self,
        bytes: Vec<u8>,
        count: usize,
        sort: Sort,
        slow: bool,
        demand: Demand,
        epoch: Option<Epoch>,
    ) -> Result<Vec<Reply>, Error> {
        if *self.common.closing.borrow() {
            return Err(Error::Closed);
        }
        let patience = if slow { self.options.change_deadline } else { self.options.deadline };
        let deadline = Instant::now() + patience;
        let mut failed: Option<(usize, Error)> = None;
        let mut attempts = 0;
        loop {
            let number = match self.up(deadline, failed.as_ref().map(|(number, _)| *number)).await {
                Ok(number) => number,
                Err(error) => return Err(failed.map_or(error, |(_, error)| error)),
            };
            let Some(link) = self.links.get(number) else { return Err(Error::Timeout) };
            attempts += 1;
            // A question leaves time to ask elsewhere.
            let others = self.links.len() > 1 && attempts < 3;
            let now = Instant::now();
            let until = if sort == Sort::Question && others { now + (deadline - now) / 2 } else { deadline };
            // The server takes so many changes at once; the others wait here, and not behind questions.
            let _room = match slow.then(|| link.state.changes.acquire()) {
                None => None,
                Some(room) => match timeout_at(deadline, room).await {
                    Ok(Ok(room)) => Some(room),
                    Ok(Err(_)) => return Err(Error::Closed),
                    Err(_) => return Err(failed.map_or(Error::Timeout, |(_, error)| error)),
                },
            };
            let (answer, answered) = oneshot::channel();
            let job = Job { bytes: bytes.clone(), count, demand, epoch, answer };
            let asked = timeout_at(until, async {
                // A link whose task is gone drops the job, and `answered` says so.
                let _ = link.queue.send(job).await;
                answered.await
            });
            let failure = match asked.await {
                Ok(Ok(Ok(replies))) => match self.moves_on(&replies, sort, attempts) {
                    Some(error) => Failure { error, sent: true },
                    None => return Ok(replies),
                },
                Ok(Ok(Err(failure))) => failure,
                Ok(Err(_)) => Failure { error: Error::Unavailable("the connection is gone".to_owned()), sent: true },
                Err(_) => {
                    link.state.late.fetch_add(1, Ordering::Relaxed);
                    Failure { error: Error::Timeout, sent: true }
                }
            };
            let again = match failure.error {
                Error::Refused { .. } if !failure.sent => false,
                _ => sort == Sort::Question || !failure.sent,
            };
            if !again || Instant::now() >= deadline {
                return Err(failure.error);
            }
            failed = Some((number, failure.error));
        }
    }

    /// Whether the server says that it has no verdict now and another may have one.
    fn moves_on(&self, replies: &[Reply], sort: Sort, attempts: usize) -> Option<Error> {
        if sort == Sort::Change || attempts >= self.links.len() {
            return None;
        }
        match replies {
            [Reply { said: Said::Error { code, text }, .. }] => {
                matches!(code, ErrorCode::NotReady | ErrorCode::Overloaded | ErrorCode::Behind)
                    .then(|| Error::from_code(*code, text))
            }
            _ => None,
        }
    }

    /// A link that is up: in turn, those that answer in time before others, not `avoid` if there is another.
    ///
    /// # Errors
    /// Why not: none was up before `deadline`, or every server has refused this caller, which waiting does not mend.
    async fn up(&self, deadline: Instant, avoid: Option<usize>) -> Result<usize, Error> {
        let mut changed = self.common.changed.subscribe();
        loop {
            let first = self.next.fetch_add(1, Ordering::Relaxed);
            let order = (0..self.links.len()).map(|i| first.wrapping_add(i) % self.links.len());
            let rank = |number: &usize| {
                let state = self.links.get(*number).map(|link| &link.state)?;
                let late = state.late.load(Ordering::Relaxed) > 0;
                state.up.load(Ordering::Acquire).then_some((avoid == Some(*number), late))
            };
            let best =
                order.filter_map(|number| rank(&number).map(|rank| (rank, number))).min_by_key(|(rank, _)| *rank);
            if let Some((_, number)) = best {
                return Ok(number);
            }
            let reasons: Vec<Error> = self.links.iter().filter_map(|link| link.state.reason()).collect();
            if reasons.len() == self.links.len() && !reasons.iter().any(Error::is_retryable) {
                return Err(reasons.into_iter().next().unwrap_or(Error::Timeout));
            }
            if timeout_at(deadline, changed.changed()).await.is_err() {
                let unheard = || Error::Unavailable("no server has answered yet".to_owned());
                return Err(reasons.into_iter().next().unwrap_or_else(unheard));
            }
        }
    }
}

fn unaddressed(request: Request<'_>) -> Envelope<'_> {
    Envelope { id: 0, least: None, request }
}

fn cannot_be_sent(error: TooLong) -> Error {
    Error::Options(error.to_string())
}

fn verdict(reply: Reply) -> Result<Verdict, Error> {
    match reply.said {
        Said::Active(introspection) => Ok(Verdict::Active(introspection)),
        Said::Inactive => Ok(Verdict::Inactive),
        other => Err(unexpected(other)),
    }
}

fn decision(reply: Reply) -> Result<Decision, Error> {
    match reply.said {
        Said::Checked(Outcome::Allowed) => Ok(Decision::Allowed),
        Said::Checked(Outcome::Denied(denial)) => Ok(Decision::Denied(denial)),
        Said::Checked(Outcome::Inactive) => Ok(Decision::Inactive),
        other => Err(unexpected(other)),
    }
}

fn unexpected(said: Said) -> Error {
    match said {
        Said::Error { code, text } => Error::from_code(code, &text),
        _ => Error::Protocol("an answer to another question".to_owned()),
    }
}

/// The digest of a token, for callers who keep it beside their own records.
pub fn digest(token: &str) -> TokenDigest {
    TokenDigest::of(token.as_bytes())
}
