//! The scribe: turns what is asked for into what stands in the list, for the model and the plain room.
//!
//! It resolves names and gives numbers, and refuses only what cannot be meant at all: a scope, grant or client that
//! does not exist. The service may refuse more (and says why); it may not refuse less.

use std::collections::HashSet;

use tokenscope::domain::{
    Access, Among, CallerId, Change, ClientId, Entry, GrantId, NewGrant, NewToken, Pair, Pepper, ScopeCatalogue,
    Sequence, Switch, Target, Timestamp, TokenDigest, TokenKey,
};
use tokenscope::service::request::{ChangeError, ChangeRequest, NamedAccess, RevokeTarget};

/// The kept identity of a token in the model; what is tested has a pepper of its own.
pub fn key(digest: &TokenDigest) -> TokenKey {
    Pepper::from_bytes(&[7; 16]).key(digest)
}

/// What has to be known to write entries.
#[derive(Clone)]
pub struct Scribe {
    catalogue: ScopeCatalogue,
    clients: HashSet<ClientId>,
    tokens: HashSet<TokenKey>,
    grants: u32,
    last: Sequence,
    by: CallerId,
}

impl Scribe {
    pub fn new() -> Self {
        Self {
            catalogue: ScopeCatalogue::new(),
            clients: HashSet::from([ClientId::personal()]),
            tokens: HashSet::new(),
            grants: 0,
            last: Sequence::ZERO,
            by: CallerId::parse("tests").expect("a valid id"),
        }
    }

    /// What `request` comes to, without doing it.
    pub fn read(&self, request: &ChangeRequest) -> Result<Change, ChangeError> {
        use ChangeRequest as Ask;
        Ok(match request.clone() {
            Ask::RegisterClient(client) => Change::RegisterClient(client),
            Ask::SwitchClient(client, switch) => {
                if client == ClientId::personal() && switch == Switch::Off {
                    return Err(ChangeError::Invalid("the built-in client cannot be suspended".into()));
                }
                Change::SwitchClient(self.known(client)?, switch)
            }
            Ask::SwitchSubject(subject, switch) => Change::SwitchSubject(subject, switch),
            Ask::AddScope(name) => {
                self.catalogue.clone().add(&name).map_err(invalid)?;
                Change::AddScope(name)
            }
            Ask::AliasScope(alias, of) => {
                self.catalogue.clone().alias(&alias, &of).map_err(invalid)?;
                Change::AliasScope(alias, of)
            }
            Ask::RetireScope(name) => {
                self.catalogue.clone().retire(&name).map_err(invalid)?;
                Change::RetireScope(name)
            }
            Ask::AddMember(subject, place) => Change::AddMember(subject, place),
            Ask::RemoveMember(subject, place) => Change::RemoveMember(subject, place),
            Ask::SetPolicyMode(workspace, mode) => Change::SetPolicyMode(workspace, mode),
            Ask::SwitchPersonal(workspace, switch) => Change::SwitchPersonal(workspace, switch),
            Ask::SetPolicyEntry(workspace, client, entry) => {
                Change::SetPolicyEntry(workspace, self.known(client)?, entry)
            }
            Ask::MakeGrant { subject, client, access, expiry, audience } => Change::MakeGrant(NewGrant {
                id: GrantId::new(self.grants + 1).expect("few grants"),
                subject,
                client: self.known(client)?,
                access: self.access(&access)?,
                expiry,
                audience,
            }),
            Ask::NarrowGrant(grant, access) => Change::NarrowGrant(self.made(grant)?, self.access(&access)?),
            Ask::ExtendGrant(grant, access) => Change::ExtendGrant(self.made(grant)?, self.access(&access)?),
            Ask::RegisterToken { digest, token } => {
                let key = key(&digest);
                if self.tokens.contains(&key) {
                    return Err(ChangeError::Conflict("the token is known".into()));
                }
                Change::RegisterToken(NewToken {
                    key,
                    grant: self.made(token.grant)?,
                    times: token.times,
                    audience: token.audience,
                    confirmation: token.confirmation,
                    narrowed: token.narrowed.map(|access| self.access(&access)).transpose()?,
                })
            }
            Ask::MintToken(_) => return Err(ChangeError::Invalid("the scribe has no randomness".into())),
            Ask::Revoke(target) => Change::Revoke(self.target(target)?),
        })
    }

    /// Writes the change down as the next entry.
    pub fn write(&mut self, change: Change, now: Timestamp) -> Entry {
        match &change {
            Change::RegisterClient(client) => _ = self.clients.insert(client.clone()),
            Change::AddScope(name) => _ = self.catalogue.add(name),
            Change::AliasScope(alias, of) => _ = self.catalogue.alias(alias, of),
            Change::RetireScope(name) => _ = self.catalogue.retire(name),
            Change::MakeGrant(_) => self.grants += 1,
            Change::RegisterToken(token) => _ = self.tokens.insert(token.key),
            _ => {}
        }
        self.last = self.last.next();
        Entry { sequence: self.last, at: now, by: self.by.clone(), change }
    }

    fn known(&self, client: ClientId) -> Result<ClientId, ChangeError> {
        let missing = || ChangeError::NotFound(format!("no client {client}"));
        if self.clients.contains(&client) { Ok(client) } else { Err(missing()) }
    }

    fn made(&self, grant: GrantId) -> Result<GrantId, ChangeError> {
        let missing = || ChangeError::NotFound(format!("no grant {grant}"));
        if grant.number() <= self.grants { Ok(grant) } else { Err(missing()) }
    }

    fn access(&self, named: &NamedAccess) -> Result<Access, ChangeError> {
        let mut pairs = Vec::new();
        for (reach, names) in named {
            let scopes = self.catalogue.mask(names.iter().map(|name| &**name)).map_err(invalid)?;
            pairs.push(Pair { reach: reach.clone(), scopes });
        }
        Access::new(pairs).map_err(invalid)
    }

    fn target(&self, target: RevokeTarget) -> Result<Target, ChangeError> {
        Ok(match target {
            RevokeTarget::Token(digest) => Target::Token(key(&digest)),
            RevokeTarget::Handle(handle) => Target::Token(handle.key()),
            RevokeTarget::Grant(grant) => Target::Grant(self.made(grant)?),
            RevokeTarget::SubjectClient(subject, client) => Target::SubjectClient(subject, self.known(client)?),
            RevokeTarget::Subject(subject) => Target::Subject(subject),
            RevokeTarget::Client(client) => Target::Client(self.known(client)?),
            RevokeTarget::WorkspaceClient(workspace, client) => Target::WorkspaceClient(workspace, self.known(client)?),
            RevokeTarget::IssuedBefore(mark, among) => {
                let among = match among {
                    Among::Client(client) => Among::Client(self.known(client)?),
                    Among::Grant(grant) => Among::Grant(self.made(grant)?),
                    other => other,
                };
                Target::IssuedBefore(mark, among)
            }
        })
    }
}

fn invalid(error: impl std::fmt::Display) -> ChangeError {
    ChangeError::Invalid(error.to_string())
}
