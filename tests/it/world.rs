//! The service, as a room of the tests. The only file here that knows how one is built.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tokenscope::domain::{GrantId, Sequence, Timestamp, TokenDigest, TokenHandle};
use tokenscope::index::{LoadError, Loader};
use tokenscope::service::caller::Caller;
use tokenscope::service::report::{ListOf, PolicyRow};
use tokenscope::service::request::{ChangeError, ChangeRequest};
use tokenscope::service::{Decision, Introspection, PlaceAsked, ScopeAsked, Scratch, Service};
use tokenscope::store::Control;
use tokenscope::testing::{Listed, almighty, service, service_over};

use crate::face::{Room, Scopes, Seen, Told};

/// A service with a caller who has every right, over a list in memory.
pub struct World {
    service: Service,
    list: Listed,
    caller: Caller,
    _control: Control,
    runtime: tokio::runtime::Runtime,
    /// Tokens by handle, for lists.
    digests: HashMap<TokenHandle, TokenDigest>,
}

impl World {
    /// What is tested, for tests that need more than a room.
    pub fn service(&self) -> &Service {
        &self.service
    }
}

impl Room for World {
    fn new() -> Self {
        let (service, list, control) = service();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { service, list, caller: almighty(), _control: control, runtime, digests: HashMap::new() }
    }

    fn change(&mut self, request: &ChangeRequest, now: Timestamp) -> Result<Option<GrantId>, ChangeError> {
        if let ChangeRequest::RegisterToken { digest, .. } = request {
            self.digests.insert(self.service.key(digest).handle(), *digest);
        }
        let done = self.runtime.block_on(self.service.change(&self.caller, request.clone(), now))?;
        assert!(self.service.reached(done.revision).is_ok(), "what was acknowledged is visible");
        Ok(done.grant)
    }

    fn check(&self, token: &TokenDigest, scope: &str, place: &str, now: Timestamp) -> Decision {
        let pin = self.service.pin();
        let key = self.service.key(token);
        let (scope, place) = (ScopeAsked::Name(scope), PlaceAsked::Name(place));
        self.service.check(&pin, &self.caller, key, scope, place, now).expect("a verdict")
    }

    fn introspect(&self, token: &TokenDigest, place: Option<&str>, now: Timestamp) -> Told {
        let mut scratch = Scratch::default();
        let pin = self.service.pin();
        let key = self.service.key(token);
        let told = self.service.introspect(&pin, &self.caller, key, place, now, &mut scratch).expect("a verdict");
        match told {
            Introspection::Inactive(reason) => Told::Inactive(reason),
            Introspection::Active(token) => Told::Active(Box::new(Seen {
                grant: token.grant,
                subject: token.subject.to_owned(),
                client: token.client.to_owned(),
                times: token.times,
                audience: token.audience().map(str::to_owned).collect(),
                confirmation: token.confirmation.map(Into::into),
                everywhere: Scopes::of(&token.everywhere),
                places: token.places().map(|(place, scopes)| (place.to_owned(), Scopes::of(&scopes))).collect(),
            })),
        }
    }

    fn live_tokens(&self, of: &ListOf, now: Timestamp) -> HashSet<TokenDigest> {
        let Ok(page) = self.service.tokens(&self.caller, of, 1_000, now) else { return HashSet::new() };
        let live = page.rows.iter().filter(|row| row.verdict.is_ok());
        live.map(|row| *self.digests.get(&row.handle).expect("only registered tokens are listed")).collect()
    }

    fn live_grants(&self, of: &ListOf, now: Timestamp) -> BTreeMap<GrantId, u64> {
        let Ok(page) = self.service.grants(&self.caller, of, 1_000, now) else { return BTreeMap::new() };
        page.rows.iter().filter(|row| row.verdict.is_ok()).map(|row| (row.id, row.tokens)).collect()
    }

    fn memberships(&self, subject: &str) -> BTreeSet<String> {
        let Ok(page) = self.service.memberships(&self.caller, subject) else { return BTreeSet::new() };
        page.rows.into_iter().filter(|row| row.live).map(|row| row.place).collect()
    }

    fn policy(&self, workspace: &str) -> PolicyRow {
        self.service.policy(&self.caller, workspace).expect("a policy")
    }

    /// As a start from a snapshot does: the index is written down as it is, said to stand `count` entries ago, read
    /// back, and the rest of the list applied again.
    fn replay(&mut self, count: usize) {
        let entries = self.list.entries();
        let from = entries.len().saturating_sub(count);
        let index = self.service.index();
        let mut loader = Loader::new(0);
        index
            .sections::<LoadError>(&mut |table, _, words| loader.section(table, words.into_iter()))
            .expect("what was written can be read");
        let (index, mut writer) = loader.finish(Sequence(from as u64)).expect("whole");
        entries[from..].iter().for_each(|entry| writer.apply(entry));
        let (service, control) = service_over(index, writer, &self.list);
        self.service = service;
        self._control = control;
    }
}
