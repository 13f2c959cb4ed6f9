//! What we do, in the RFCs' words: plain functions over the index, and changes handed to the one writer.
//!
//! Every door calls the same functions here and so gives the same answer. `now` is always an argument; nothing here
//! knows a socket, a byte of the wire, or a runtime. Answering a question takes no lock, waits for nothing and
//! allocates nothing; a report for people may walk.
//!
//! Which way it falls: a question that cannot be answered is [`Refusal`], never active and never inactive; a change
//! that is not known to be durable is an error, never done.

/// Who asks.
pub mod caller;
/// Answers to people.
pub mod report;
/// What is asked to be changed.
pub mod request;

use crate::domain::{
    Confirmation, Denial, GrantId, Inactive, Revision, ScopeMask, ScopePosition, Timestamp, TokenDigest, TokenHandle,
    TokenKey, TokenTimes,
};
use crate::index::Pin;
use caller::Caller;
use report::{
    Explanation, GrantRow, ListOf, MemberRow, Page, PolicyRow, ReportError, RiskOf, RiskReport, ScopeRow, Status,
    TokenRow, Toll,
};
use request::{ChangeError, ChangeRequest, Done, RevokeTarget};

/// Why a question got no verdict. Neither active nor inactive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The caller has no right to ask about tokens.
    #[error("this caller may not ask about tokens")]
    MayNotAsk,
    /// The caller asked about a place outside its workspaces.
    #[error("this caller may not ask about this workspace")]
    MayNotAskThere,
    /// The revision the question demands is not reached here.
    #[error("this server has not reached the revision that was demanded")]
    Behind,
    /// Not ready: starting or shutting down.
    #[error("this server is not ready")]
    NotReady,
}

/// What an introspection says.
#[derive(Debug)]
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

/// Memory that answers are worked out in, kept by a session so that no question allocates.
#[derive(Debug, Default)]
pub struct Scratch {
    places: Vec<(u32, ScopeMask)>,
}

/// A service over one store.
#[derive(Clone, Debug)]
pub struct Service {}

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
    pub confirmation: Option<Confirmation>,
    /// What is allowed at *every* place of the token, or at the place that was asked about: the RFC's `scope`.
    pub everywhere: ScopeMask,
    _pin: std::marker::PhantomData<&'p ()>,
}

impl<'p> ActiveToken<'p> {
    /// `aud`: the resource servers the token is for.
    pub fn audience(&self) -> impl Iterator<Item = &'p str> + '_ {
        std::iter::empty()
    }

    /// The places where the token may do anything, with what it may do there. Never empty; no place twice; in
    /// workspaces the caller may see. A project is listed only if it has more than its workspace or stands alone.
    pub fn places(&self) -> impl ExactSizeIterator<Item = (&'p str, ScopeMask)> + '_ {
        std::iter::empty()
    }

    /// The names of a set of scopes, for answers in JSON.
    pub fn scope_names(&self, _mask: &ScopeMask) -> impl Iterator<Item = &'p str> {
        std::iter::empty()
    }
}

impl Service {
    /// The right to look into the index for a moment; holds nothing up, must not be held across a wait.
    pub fn pin(&self) -> Pin<'_> {
        todo!()
    }

    /// The last change that is visible.
    pub fn revision(&self) -> Revision {
        todo!()
    }

    /// Whether `least` is reached here.
    ///
    /// # Errors
    /// [`Refusal::Behind`], also when `least` is of another epoch.
    pub fn reached(&self, _least: Revision) -> Result<(), Refusal> {
        todo!()
    }

    /// The kept identity of the token with this digest. A session computes the keys of all questions it has at hand
    /// first, then calls [`Service::prefetch`], then answers one by one: their cache misses overlap.
    pub fn key(&self, _digest: &TokenDigest) -> TokenKey {
        todo!()
    }

    /// Begins to load what the coming questions about `keys` will read. Only a hint: no answer depends on it.
    pub fn prefetch(&self, _pin: &Pin<'_>, _keys: &[TokenKey]) {
        todo!()
    }

    /// RFC 7662: what is this token? With `place`, what is it there?
    ///
    /// Without `place`, a token that has nothing left anywhere is inactive. With `place`, [`ActiveToken::everywhere`]
    /// and the places are those of that place alone, and a token with nothing there is inactive.
    ///
    /// # Errors
    /// No verdict: see [`Refusal`].
    pub fn introspect<'p>(
        &self,
        _pin: &'p Pin<'_>,
        _caller: &Caller,
        _key: TokenKey,
        _place: Option<&str>,
        _now: Timestamp,
        _scratch: &'p mut Scratch,
    ) -> Result<Introspection<'p>, Refusal> {
        todo!()
    }

    /// May this token do `scope` at `place`?
    ///
    /// # Errors
    /// No verdict: see [`Refusal`].
    pub fn check(
        &self,
        _pin: &Pin<'_>,
        _caller: &Caller,
        _key: TokenKey,
        _scope: ScopeAsked<'_>,
        _place: PlaceAsked<'_>,
        _now: Timestamp,
    ) -> Result<Decision, Refusal> {
        todo!()
    }

    /// A short number for a place, good in this epoch: [`PlaceAsked::Number`] spares the server the look-up of the
    /// name. `None`: no change ever named the place.
    pub fn place_number(&self, _pin: &Pin<'_>, _place: &str) -> Option<u32> {
        todo!()
    }

    /// The position of a scope name; `None` if unknown or retired.
    pub fn scope_position(&self, _pin: &Pin<'_>, _scope: &str) -> Option<ScopePosition> {
        todo!()
    }

    /// Makes one change: checks the right, resolves names, hands it to the writer. The future waits for the receipt;
    /// dropping it does not take the change back.
    ///
    /// # Errors
    /// See [`ChangeError`]: nothing has changed, unless the outcome is unknown.
    pub async fn change(
        &self,
        _caller: &Caller,
        _request: ChangeRequest,
        _now: Timestamp,
    ) -> Result<Done, ChangeError> {
        todo!()
    }

    /// What a revocation would hit. Walks all tokens.
    ///
    /// # Errors
    /// The caller may not revoke this, or it does not exist.
    pub fn toll(&self, _caller: &Caller, _target: &RevokeTarget, _now: Timestamp) -> Result<Toll, ReportError> {
        todo!()
    }

    /// Everything about one token, why it is inactive included. Operators only.
    ///
    /// # Errors
    /// The caller is no operator.
    pub fn explain(&self, _caller: &Caller, _handle: TokenHandle, _now: Timestamp) -> Result<Explanation, ReportError> {
        todo!()
    }

    /// Tokens of a subject, client or grant. Operators and issuers. Walks all tokens.
    ///
    /// # Errors
    /// The caller may not list, or there is no such subject, client or grant.
    pub fn tokens(
        &self,
        _caller: &Caller,
        _of: &ListOf,
        _limit: usize,
        _now: Timestamp,
    ) -> Result<Page<TokenRow>, ReportError> {
        todo!()
    }

    /// Grants of a subject or client, or one grant. Operators and issuers.
    ///
    /// # Errors
    /// As [`Service::tokens`].
    pub fn grants(
        &self,
        _caller: &Caller,
        _of: &ListOf,
        _limit: usize,
        _now: Timestamp,
    ) -> Result<Page<GrantRow>, ReportError> {
        todo!()
    }

    /// Memberships of a subject. Operators, issuers, and administrators (who see their own workspaces).
    ///
    /// # Errors
    /// As [`Service::tokens`].
    pub fn memberships(&self, _caller: &Caller, _subject: &str) -> Result<Page<MemberRow>, ReportError> {
        todo!()
    }

    /// A workspace's app policy. Operators and its administrators.
    ///
    /// # Errors
    /// The caller may not see it. A workspace nothing was ever said about has the default policy.
    pub fn policy(&self, _caller: &Caller, _workspace: &str) -> Result<PolicyRow, ReportError> {
        todo!()
    }

    /// All registered clients: name, and whether it is let in.
    ///
    /// # Errors
    /// The caller may neither operate, issue, define nor administer.
    pub fn clients(&self, _caller: &Caller, _limit: usize) -> Result<Page<(String, bool)>, ReportError> {
        todo!()
    }

    /// All scopes, in the order of their positions. Any caller.
    pub fn scopes(&self) -> Page<ScopeRow> {
        todo!()
    }

    /// How risky something is (row S10). Operators and issuers; an administrator for a client in its workspace.
    ///
    /// # Errors
    /// As [`Service::tokens`].
    pub fn risk(&self, _caller: &Caller, _of: &RiskOf, _now: Timestamp) -> Result<RiskReport, ReportError> {
        todo!()
    }

    /// The service in numbers. Operators.
    ///
    /// # Errors
    /// The caller is no operator.
    pub fn status(&self, _caller: &Caller) -> Result<Status, ReportError> {
        todo!()
    }
}
