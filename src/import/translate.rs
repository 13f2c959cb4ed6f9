//! Lines into changes: names of scopes into positions, labels of grants into numbers, digests into keys.
//!
//! Pure: the same lines over the same starting point give the same changes, which is what lets an interrupted import
//! be repeated. What a line names has to exist by then: a scope, a client, a grant of a line above.

use std::collections::HashSet;

use super::labels::Labels;
use super::line::{GrantLine, Line, PolicyLine, TokenLine, TokenName};
use super::{GRANTS_MAX, ImportSink};
use crate::domain::{
    Access, Audience, Change, ClientId, GrantId, NewGrant, NewToken, Pair, PolicyEntry, ScopeCatalogue, Switch,
};
use crate::service::request::NamedAccess;

pub(super) struct Translation {
    /// As it will be after the lines so far.
    catalogue: ScopeCatalogue,
    /// Clients registered by lines so far.
    clients: HashSet<Box<str>>,
    /// The grants of lines so far.
    labels: Labels,
    default_audience: Vec<Audience>,
    first_grant: u32,
    /// Whether a line has said under which pepper handles were made.
    pepper_seen: bool,
}

impl Translation {
    pub(super) fn new(sink: &dyn ImportSink, first_grant: u32) -> Self {
        Self {
            catalogue: sink.catalogue(),
            clients: HashSet::new(),
            labels: Labels::new(),
            default_audience: sink.default_audience(),
            first_grant,
            pepper_seen: false,
        }
    }

    /// How many grants the lines so far have made.
    pub(super) fn grants(&self) -> u32 {
        self.labels.len()
    }

    pub(super) fn first_grant(&self) -> u32 {
        self.first_grant
    }

    /// Appends what `line` means to `changes`.
    pub(super) fn changes(
        &mut self,
        line: Line,
        sink: &dyn ImportSink,
        changes: &mut Vec<Change>,
    ) -> Result<(), String> {
        match line {
            Line::Pepper(fingerprint) if fingerprint == sink.pepper() => self.pepper_seen = true,
            Line::Pepper(_) => {
                return Err("the token handles of this export were made under another pepper; import it into a data \
                            directory that has the same pepper file"
                    .into());
            }
            Line::Client(client, switch) => {
                self.clients.insert(client.as_str().into());
                let suspend = switch == Switch::Off;
                changes.push(Change::RegisterClient(client.clone()));
                changes.extend(suspend.then_some(Change::SwitchClient(client, Switch::Off)));
            }
            Line::Scope(name, switch) => {
                self.catalogue.add(&name).map_err(|error| error.to_string())?;
                changes.push(Change::AddScope(name.clone()));
                if switch == Switch::Off {
                    // Our own copy keeps the name: grants below may still hold the withdrawn position, as they did
                    // where the export came from.
                    changes.push(Change::RetireScope(name));
                }
            }
            Line::Alias(alias, of) => {
                self.catalogue.alias(&alias, &of).map_err(|error| error.to_string())?;
                changes.push(Change::AliasScope(alias, of));
            }
            Line::Subject(subject, switch) => changes.push(Change::SwitchSubject(subject, switch)),
            Line::Member(subject, place) => changes.push(Change::AddMember(subject, place)),
            Line::Policy(line) => self.policy(line, sink, changes)?,
            Line::Grant(line) => changes.push(self.grant(line, sink)?),
            Line::Token(line) => changes.push(self.token(line, sink)?),
        }
        Ok(())
    }

    fn known(&self, client: &ClientId, sink: &dyn ImportSink) -> Result<(), String> {
        let name = client.as_str();
        if *client == ClientId::personal() || self.clients.contains(name) || sink.knows_client(name) {
            return Ok(());
        }
        Err(format!("client {name:?} is not registered; put a line {{\"client\":{name:?}}} before this one"))
    }

    fn access(&self, access: &NamedAccess) -> Result<Access, String> {
        let pair = |(reach, scopes): &(_, Vec<Box<str>>)| {
            let scopes = self.catalogue.mask(scopes.iter().map(|scope| &**scope)).map_err(|error| error.to_string())?;
            Ok::<_, String>(Pair { reach: Clone::clone(reach), scopes })
        };
        let pairs = access.iter().map(pair).collect::<Result<Vec<Pair>, _>>()?;
        Access::new(pairs).map_err(|error| error.to_string())
    }

    fn policy(&self, line: PolicyLine, sink: &dyn ImportSink, changes: &mut Vec<Change>) -> Result<(), String> {
        let workspace = line.workspace;
        for client in line.blocked.iter().chain(&line.approved) {
            self.known(client, sink)?;
        }
        changes.extend(line.mode.map(|mode| Change::SetPolicyMode(workspace.clone(), mode)));
        changes.extend(line.personal.map(|personal| Change::SwitchPersonal(workspace.clone(), personal)));
        let mut entries = |clients: Vec<ClientId>, entry: PolicyEntry| {
            changes.extend(clients.into_iter().map(|client| Change::SetPolicyEntry(workspace.clone(), client, entry)));
        };
        entries(line.blocked, PolicyEntry::Block);
        entries(line.approved, PolicyEntry::Approve);
        Ok(())
    }

    fn grant(&mut self, line: GrantLine, sink: &dyn ImportSink) -> Result<Change, String> {
        self.known(&line.client, sink)?;
        let access = self.access(&line.access)?;
        let audience = line.audience.unwrap_or_else(|| self.default_audience.clone());
        if audience.is_empty() {
            return Err("no \"aud\", and no default audience is configured".into());
        }
        let number = self.first_grant.checked_add(self.labels.len()).and_then(GrantId::new);
        let id = number.ok_or_else(|| format!("too many grants; a data directory holds {GRANTS_MAX}"))?;
        if self.labels.add(&line.label).is_none() {
            return Err(format!("a grant with the label {:?} was there before", line.label.as_str()));
        }
        let GrantLine { subject, client, expiry, .. } = line;
        Ok(Change::MakeGrant(NewGrant { id, subject, client, access, expiry, audience }))
    }

    fn token(&self, line: TokenLine, sink: &dyn ImportSink) -> Result<Change, String> {
        let place = self.labels.find(&line.grant);
        let number = place.and_then(|place| self.first_grant.checked_add(place)).and_then(GrantId::new);
        let grant =
            number.ok_or_else(|| format!("no grant with the label {:?} above this line", line.grant.as_str()))?;
        let key = match line.name {
            TokenName::Digest(digest) => sink.key(&digest),
            TokenName::Handle(handle) if self.pepper_seen => handle.key(),
            TokenName::Handle(_) => {
                return Err("a token handle without a \"pepper\" line above it means nothing".into());
            }
        };
        let narrowed = line.narrowed.as_ref().map(|access| self.access(access)).transpose()?;
        let TokenLine { times, audience, confirmation, .. } = line;
        Ok(Change::RegisterToken(NewToken { key, grant, times, audience, confirmation, narrowed }))
    }
}
