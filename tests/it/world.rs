//! The service, as a room of the tests. The only file here that knows how one is built.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use tokenscope::domain::{GrantId, Timestamp, TokenDigest};
use tokenscope::service::Decision;
use tokenscope::service::report::{ListOf, PolicyRow};
use tokenscope::service::request::{ChangeError, ChangeRequest};

use crate::face::{Room, Told};
use crate::plain::Plain;

/// A service with a caller who has every right. Until the service has bodies, the plain room stands in for it.
pub struct World {
    service: Plain,
}

impl Room for World {
    fn new() -> Self {
        Self { service: Plain::new() }
    }

    fn change(&mut self, request: &ChangeRequest, now: Timestamp) -> Result<Option<GrantId>, ChangeError> {
        self.service.change(request, now)
    }

    fn check(&self, token: &TokenDigest, scope: &str, place: &str, now: Timestamp) -> Decision {
        self.service.check(token, scope, place, now)
    }

    fn introspect(&self, token: &TokenDigest, place: Option<&str>, now: Timestamp) -> Told {
        self.service.introspect(token, place, now)
    }

    fn live_tokens(&self, of: &ListOf, now: Timestamp) -> HashSet<TokenDigest> {
        self.service.live_tokens(of, now)
    }

    fn live_grants(&self, of: &ListOf, now: Timestamp) -> BTreeMap<GrantId, u64> {
        self.service.live_grants(of, now)
    }

    fn memberships(&self, subject: &str) -> BTreeSet<String> {
        self.service.memberships(subject)
    }

    fn policy(&self, workspace: &str) -> PolicyRow {
        self.service.policy(workspace)
    }

    fn replay(&mut self, count: usize) {
        self.service.replay(count);
    }
}
