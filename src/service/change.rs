//! Changes: the caller's right, the names resolved, one [`Change`] for the writer.

use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};

use super::caller::{Caller, RevokeRight};
use super::request::{ChangeError, ChangeRequest, Done, NamedAccess, RevokeTarget, TokenTerms};
use super::{Pin, Refusal, Service};
use crate::domain::scope::check_scope_name;
use crate::domain::token::CONFIRMATION_BYTES_MAX;
use crate::domain::{
    Access, Audience, Change, Confirmation, GrantId, NewGrant, NewToken, Pair, Place, Target, Timestamp, TokenDigest,
    TokenHandle, TokenKey,
};
use crate::store::{CommitError, Committed, Rotated, Tray};

/// The most resource servers one grant or token can be for.
pub const AUDIENCES_MAX: usize = 16;

impl From<CommitError> for ChangeError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Invalid(what) => Self::Invalid(what),
            CommitError::NotFound(what) => Self::NotFound(what),
            CommitError::Conflict(what) => Self::Conflict(what),
            CommitError::Busy => Self::Busy,
            CommitError::Unavailable(what) => Self::Unavailable(what),
            CommitError::Unknown(what) => Self::Unknown(what),
        }
    }
}

/// Whose a token is, for an OAuth client that may revoke its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owned {
    /// No such token is known.
    Nobodys,
    /// The client's.
    Own,
    /// Another client's.
    Anothers,
}

/// What an OAuth client may not do.
pub(super) const ANOTHERS_TOKEN: &str = "revoke another client's token";

/// A change ready for the writer, and what its answer will need beside the receipt.
struct Prepared {
    change: Change,
    minted: Option<String>,
}

/// A change that may be made.
enum Ready {
    Done(Done),
    ToCommit(Change, UnderWay),
}

/// A change that waits for its receipt: what its answer will need beside it.
#[derive(Debug)]
pub struct UnderWay {
    handle: Option<TokenHandle>,
    minted: Option<String>,
}

/// A change that was started.
#[derive(Debug)]
pub enum Started {
    /// There was nothing to do.
    Done(Done),
    /// Its receipt will be laid in the tray.
    UnderWay(UnderWay),
}

impl Service {
    /// Makes one change: checks the right, resolves names, hands it to the writer. The future waits for the receipt;
    /// dropping it does not take the change back.
    ///
    /// # Errors
    /// See [`ChangeError`]: nothing has changed, unless the outcome is unknown.
    pub async fn change(&self, caller: &Caller, request: ChangeRequest, now: Timestamp) -> Result<Done, ChangeError> {
        match self.ready(caller, request)? {
            Ready::Done(done) => Ok(done),
            Ready::ToCommit(change, under_way) => {
                let receipt = self.committer.commit(caller.id.clone(), change, now);
                self.done(under_way, receipt.await)
            }
        }
    }

    /// As [`Service::change`], for somebody with many changes in flight: does not wait. What became of it is laid in the
    /// `tray` with the `tag`, and [`Service::done`] makes an answer of it.
    ///
    /// # Errors
    /// As [`Service::change`], as far as it is known at once; then nothing is laid in the tray.
    pub fn start_change(
        &self,
        caller: &Caller,
        request: ChangeRequest,
        now: Timestamp,
        tray: &Arc<Tray>,
        tag: u32,
    ) -> Result<Started, ChangeError> {
        match self.ready(caller, request)? {
            Ready::Done(done) => Ok(Started::Done(done)),
            Ready::ToCommit(change, under_way) => {
                self.committer.commit_to_tray(caller.id.clone(), change, now, tray, tag)?;
                Ok(Started::UnderWay(under_way))
            }
        }
    }

    /// Has new MAC keys made for journal and snapshots, and waits until they are in force. No change of the list; nothing
    /// else waits longer than for a commit.
    ///
    /// # Errors
    /// As [`Service::change`]; `Conflict` if too many generations are kept.
    pub async fn rotate_keys(&self, caller: &Caller) -> Result<Rotated, ChangeError> {
        if !caller.rights.operate {
            return Err(ChangeError::Forbidden { caller: caller.id.to_string(), what: "rotate the keys" });
        }
        Ok(self.committer.rotate_keys().await?)
    }

    /// What a change that was under way has come to.
    ///
    /// # Errors
    /// As [`Service::change`].
    pub fn done(&self, change: UnderWay, committed: Result<Committed, CommitError>) -> Result<Done, ChangeError> {
        let committed = committed?;
        let UnderWay { handle, minted } = change;
        Ok(Done { revision: self.at(committed.sequence), grant: committed.grant, handle, token: minted })
    }

    fn ready(&self, caller: &Caller, request: ChangeRequest) -> Result<Ready, ChangeError> {
        self.may_change(caller, &request)?;
        if let Some(done) = self.nothing_to_do(caller, &request)? {
            return Ok(Ready::Done(done));
        }
        let Prepared { change, minted } = self.prepare(request)?;
        let handle = match &change {
            Change::RegisterToken(token) => Some(token.key.handle()),
            _ => None,
        };
        Ok(Ready::ToCommit(change, UnderWay { handle, minted }))
    }

    /// RFC 7009: an OAuth client that revokes a token nobody knows is told "done", and nothing is written for it.
    fn nothing_to_do(&self, caller: &Caller, request: &ChangeRequest) -> Result<Option<Done>, ChangeError> {
        let (ChangeRequest::Revoke(target), Some(RevokeRight::OwnTokensOf(_))) = (request, &caller.rights.revoke)
        else {
            return Ok(None);
        };
        match self.owned(&self.pin(), caller, target) {
            None => Ok(None),
            Some(Owned::Nobodys) => {
                Ok(Some(Done { revision: self.revision(), grant: None, handle: None, token: None }))
            }
            Some(Owned::Own) => Ok(None),
            Some(Owned::Anothers) => {
                Err(ChangeError::Forbidden { caller: caller.id.to_string(), what: ANOTHERS_TOKEN })
            }
        }
    }

    /// Whose the one token is that an OAuth client wants to revoke. `None`: the caller is not limited to its own tokens,
    /// or names something else than a token.
    pub(super) fn owned(&self, pin: &Pin<'_>, caller: &Caller, target: &RevokeTarget) -> Option<Owned> {
        let Some(RevokeRight::OwnTokensOf(client)) = &caller.rights.revoke else { return None };
        let key = match target {
            RevokeTarget::Token(digest) => self.key(digest),
            RevokeTarget::Handle(handle) => handle.key(),
            _ => return None,
        };
        let owner = pin.token(key).and_then(|token| pin.grant(token.grant)).map(|grant| pin.client_text(grant.client));
        Some(match owner {
            None => Owned::Nobodys,
            Some(owner) if owner == client.as_str() => Owned::Own,
            Some(_) => Owned::Anothers,
        })
    }

    fn may_change(&self, caller: &Caller, request: &ChangeRequest) -> Result<(), ChangeError> {
        let rights = &caller.rights;
        let (may, what) = match request {
            ChangeRequest::RegisterClient(_) | ChangeRequest::SwitchClient(..) => (rights.define, "define clients"),
            ChangeRequest::AddScope(_) | ChangeRequest::AliasScope(..) | ChangeRequest::RetireScope(_) => {
                (rights.define, "define scopes")
            }
            ChangeRequest::SwitchSubject(..) => (rights.issue || rights.operate, "suspend subjects"),
            ChangeRequest::AddMember(_, place) | ChangeRequest::RemoveMember(_, place) => {
                (caller.administers(place), "change members of this workspace")
            }
            ChangeRequest::SetPolicyMode(workspace, _)
            | ChangeRequest::SwitchPersonal(workspace, _)
            | ChangeRequest::SetPolicyEntry(workspace, ..) => {
                (caller.administers_workspace(workspace), "change the app policy of this workspace")
            }
            ChangeRequest::MakeGrant { .. } | ChangeRequest::NarrowGrant(..) | ChangeRequest::ExtendGrant(..) => {
                (rights.issue, "make or change grants")
            }
            ChangeRequest::RegisterToken { .. } | ChangeRequest::MintToken(_) => (rights.issue, "issue tokens"),
            ChangeRequest::Revoke(target) => (may_revoke(caller, target), "revoke this"),
        };
        if may { Ok(()) } else { Err(ChangeError::Forbidden { caller: caller.id.to_string(), what }) }
    }

    fn prepare(&self, request: ChangeRequest) -> Result<Prepared, ChangeError> {
        let mut minted = None;
        let change = match request {
            ChangeRequest::RegisterClient(client) => Change::RegisterClient(client),
            ChangeRequest::SwitchClient(client, switch) => Change::SwitchClient(client, switch),
            ChangeRequest::SwitchSubject(subject, switch) => Change::SwitchSubject(subject, switch),
            ChangeRequest::AddScope(name) => {
                check_scope_name(&name).map_err(invalid)?;
                Change::AddScope(name)
            }
            ChangeRequest::AliasScope(alias, of) => Change::AliasScope(alias, of),
            ChangeRequest::RetireScope(name) => Change::RetireScope(name),
            ChangeRequest::AddMember(subject, place) => Change::AddMember(subject, place),
            ChangeRequest::RemoveMember(subject, place) => Change::RemoveMember(subject, place),
            ChangeRequest::SetPolicyMode(workspace, mode) => Change::SetPolicyMode(workspace, mode),
            ChangeRequest::SwitchPersonal(workspace, switch) => Change::SwitchPersonal(workspace, switch),
            ChangeRequest::SetPolicyEntry(workspace, client, entry) => Change::SetPolicyEntry(workspace, client, entry),
            ChangeRequest::MakeGrant { subject, client, access, expiry, audience } => Change::MakeGrant(NewGrant {
                id: first_grant(),
                subject,
                client,
                access: self.access(&access)?,
                expiry,
                audience: self.audience(audience)?,
            }),
            ChangeRequest::NarrowGrant(id, access) => Change::NarrowGrant(id, self.access(&access)?),
            ChangeRequest::ExtendGrant(id, access) => Change::ExtendGrant(id, self.access(&access)?),
            ChangeRequest::RegisterToken { digest, token } => self.token(self.key(&digest), token)?,
            ChangeRequest::MintToken(terms) => {
                let string = self.mint()?;
                let key = self.key(&TokenDigest::of(string.as_bytes()));
                minted = Some(string);
                self.token(key, terms)?
            }
            ChangeRequest::Revoke(target) => Change::Revoke(self.target(target)),
        };
        Ok(Prepared { change, minted })
    }

    pub(super) fn access(&self, named: &NamedAccess) -> Result<Access, ChangeError> {
        let pin = self.pin();
        let catalogue = pin.catalogue();
        let pairs: Result<Vec<Pair>, _> = named
            .iter()
            .map(|(reach, names)| {
                let scopes = catalogue.mask(names.iter().map(|name| &**name))?;
                Ok(Pair { reach: reach.clone(), scopes })
            })
            .collect();
        let pairs = pairs.map_err(|error: crate::domain::scope::ScopeError| ChangeError::Invalid(error.to_string()))?;
        Access::new(pairs).map_err(invalid)
    }

    fn audience(&self, given: Vec<Audience>) -> Result<Vec<Audience>, ChangeError> {
        let audience = if given.is_empty() { self.shared.options.default_audience.clone() } else { given };
        match audience.len() {
            0 => Err(ChangeError::Invalid(
                "no audience is given and no default is configured; name the resource servers this is for".into(),
            )),
            count if count > AUDIENCES_MAX => {
                Err(ChangeError::Invalid(format!("{count} audiences are given; at most {AUDIENCES_MAX} are allowed")))
            }
            _ => Ok(audience),
        }
    }

    fn token(&self, key: TokenKey, terms: TokenTerms) -> Result<Change, ChangeError> {
        if let Some(Confirmation::Other(json)) = &terms.confirmation
            && json.len() > CONFIRMATION_BYTES_MAX
        {
            let bytes = json.len();
            let what = format!("cnf is {bytes} bytes of JSON; at most {CONFIRMATION_BYTES_MAX} are allowed");
            return Err(ChangeError::Invalid(what));
        }
        Ok(Change::RegisterToken(NewToken {
            key,
            grant: terms.grant,
            times: terms.times,
            audience: terms.audience.map(|audience| self.audience(audience)).transpose()?,
            confirmation: terms.confirmation,
            narrowed: terms.narrowed.as_ref().map(|access| self.access(access)).transpose()?,
        }))
    }

    fn mint(&self) -> Result<String, ChangeError> {
        let random = SystemRandom::new();
        let digit = || loop {
            let mut byte = [0];
            random.fill(&mut byte).map_err(|_| {
                ChangeError::Unavailable("the system's random numbers cannot be read; no token was made".into())
            })?;
            // The largest multiple of 62 below 256: what is above would favour some digits.
            if byte[0] < 248 {
                return Ok(byte[0] % 62);
            }
        };
        self.shared.options.prefix.mint(digit)
    }

    pub(super) fn target(&self, target: RevokeTarget) -> Target {
        match target {
            RevokeTarget::Token(digest) => Target::Token(self.key(&digest)),
            RevokeTarget::Handle(handle) => Target::Token(handle.key()),
            RevokeTarget::Grant(id) => Target::Grant(id),
            RevokeTarget::SubjectClient(subject, client) => Target::SubjectClient(subject, client),
            RevokeTarget::Subject(subject) => Target::Subject(subject),
            RevokeTarget::Client(client) => Target::Client(client),
            RevokeTarget::WorkspaceClient(workspace, client) => Target::WorkspaceClient(workspace, client),
            RevokeTarget::IssuedBefore(moment, among) => Target::IssuedBefore(moment, among),
        }
    }

    /// Whether changes are accepted.
    ///
    /// # Errors
    /// [`Refusal::NotReady`] when the journal is poisoned or closed.
    pub fn accepts_changes(&self) -> Result<(), Refusal> {
        if self.committer.is_open() { Ok(()) } else { Err(Refusal::NotReady) }
    }
}

/// Whether the caller may revoke this. Whose token it is comes later, see `nothing_to_do`.
pub(super) fn may_revoke(caller: &Caller, target: &RevokeTarget) -> bool {
    match (&caller.rights.revoke, target) {
        (Some(RevokeRight::Anything), _) => true,
        (Some(RevokeRight::OwnTokensOf(_)), RevokeTarget::Token(_) | RevokeTarget::Handle(_)) => true,
        (_, RevokeTarget::WorkspaceClient(workspace, _)) => caller.administers(&Place::workspace(workspace)),
        _ => false,
    }
}

fn invalid(error: impl std::fmt::Display) -> ChangeError {
    ChangeError::Invalid(error.to_string())
}

/// A stand-in: the writer gives the number.
fn first_grant() -> GrantId {
    match GrantId::new(1) {
        Some(id) => id,
        None => unreachable!("1 is the number of a grant"),
    }
}
