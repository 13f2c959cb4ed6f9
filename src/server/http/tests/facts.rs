//! A service over an index that holds something, for the tests of this door: its journal keeps nothing, and fails when
//! it is told to.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::domain::{Audience, Entry, Epoch, Pepper, Sequence};
use crate::index;
use crate::journal::{ChainHash, Head, Journal, JournalError};
use crate::service::Options;
use crate::store::{Limits, start};
use crate::testing::feed_over;

/// A journal that counts.
struct Counting {
    head: Head,
    fails: Arc<AtomicBool>,
}

impl Journal for Counting {
    fn head(&self) -> Head {
        self.head
    }

    fn commit(&mut self, batch: &[Entry]) -> Result<Head, JournalError> {
        if self.fails.load(Relaxed) {
            return Err(JournalError::Poisoned("no space, on purpose".into()));
        }
        if let Some(last) = batch.last() {
            self.head.last = last.sequence;
        }
        Ok(self.head)
    }

    fn read_after(
        &self,
        _: Sequence,
        _: Option<ChainHash>,
        _: &mut dyn FnMut(&Entry, ChainHash) -> Result<(), JournalError>,
    ) -> Result<Head, JournalError> {
        Ok(self.head)
    }

    fn discard_through(&mut self, _: Sequence) -> Result<(), JournalError> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn close(self: Box<Self>) -> Result<(), JournalError> {
        Ok(())
    }
}

/// A service with nothing in it yet, and the switch that makes its journal fail.
pub(super) fn service() -> (Service, Arc<AtomicBool>) {
    let (index, writer) = index::new();
    let fails = Arc::new(AtomicBool::new(false));
    let head = Head { epoch: Epoch(7), last: Sequence::ZERO, chain: ChainHash([0; 32]), discarded: Sequence::ZERO };
    let journal = Counting { head, fails: fails.clone() };
    let feed = feed_over(&journal);
    let (committer, control) = start(writer, Box::new(journal), feed, Limits::default());
    #[expect(clippy::mem_forget, reason = "the writer's thread lives as long as the test's process")]
    std::mem::forget(control);
    let options =
        Options { default_audience: vec![Audience::parse("api").unwrap()], prefix: TokenPrefix::parse("tks").unwrap() };
    (Service::new(index, committer, Epoch(7), Pepper::from_bytes(&[3; 16]), options), fails)
}

/// Who asks in these tests. The secret of each is its name.
fn cast() -> Callers {
    let ask = |audience: &str, workspaces: Only<String>| {
        Some(AskRight { audiences: Only::These([audience.to_owned()].into()), workspaces })
    };
    let root = Rights {
        ask: Some(AskRight { audiences: Only::All, workspaces: Only::All }),
        issue: true,
        revoke: Some(RevokeRight::Anything),
        administer: Some(Only::All),
        define: true,
        operate: true,
    };
    let own = |client: &str| RevokeRight::OwnTokensOf(crate::domain::ClientId::parse(client).unwrap());
    let list = [
        ("root", root),
        ("rs", Rights { ask: ask("api", Only::All), ..Rights::default() }),
        ("other", Rights { ask: ask("other", Only::All), ..Rights::default() }),
        ("narrow", Rights { ask: ask("api", Only::These(["A".to_owned()].into())), ..Rights::default() }),
        ("app", Rights { revoke: Some(own("app")), ..Rights::default() }),
        ("rival", Rights { revoke: Some(own("rival")), ..Rights::default() }),
    ];
    let known = |(id, rights): (&str, Rights)| {
        let shows = CredentialsOf { secret_sha256: sha256(id), ..CredentialsOf::default() };
        (Caller { id: CallerId::parse(id).unwrap(), rights }, shows)
    };
    Callers::new(list.into_iter().map(known).collect())
}

/// A door with facts behind it.
pub(super) struct World {
    pub(super) desk: Desk,
    pub(super) journal_fails: Arc<AtomicBool>,
}

/// The moment these tests begin at.
pub(super) const NOW: u64 = 1_700_000_000;

impl World {
    /// Scopes tasks:read, tasks:write and users:read; the clients app and rival; u1 a member of A and B.
    pub(super) async fn new() -> Self {
        let (service, journal_fails) = service();
        let shared = Shared {
            service,
            callers: Arc::new(ArcSwap::from_pointee(cast())),
            clock: Clock::manual(Timestamp::from_seconds(NOW).unwrap()),
            stats: Arc::new(Stats::default()),
        };
        let world = Self { desk: Desk::new(shared, settings(), HttpOptions::default()), journal_fails };
        for scope in ["tasks:read", "tasks:write", "users:read"] {
            world.make("/v1/scopes", json!({ "scope": scope })).await;
        }
        for client in ["app", "rival"] {
            world.make("/v1/clients", json!({ "client": client })).await;
        }
        for place in ["A", "B"] {
            world.make("/v1/members", json!({ "subject": "u1", "place": place })).await;
        }
        world
    }

    /// A change by root that has to succeed; its answer.
    pub(super) async fn make(&self, path: &str, body: Value) -> Value {
        let got = self.api("root", "POST", path, &body.to_string()).await;
        assert_eq!(got.status, 200, "{path} {body}: {}", got.body);
        got.json()
    }

    /// Any call of the API.
    pub(super) async fn api(&self, who: &str, method: &str, path: &str, body: &str) -> Got {
        let auth = basic_header(who, who);
        send(&self.desk, method, path, &[("authorization", &auth)], body).await
    }

    /// A grant of u1 to `client`; its id.
    pub(super) async fn grant(&self, client: &str, access: Value) -> String {
        let body = json!({ "subject": "u1", "client": client, "access": access, "never_expires": true });
        self.make("/v1/grants", body).await["grant"].as_str().unwrap().to_owned()
    }

    /// A token of a grant, minted with `more` said of it.
    pub(super) async fn token(&self, grant: &str, more: Value) -> String {
        let mut body = json!({ "grant": grant, "exp": NOW + 3_600 });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.make("/v1/tokens/mint", body).await["token"].as_str().unwrap().to_owned()
    }

    /// A form, sent to one of the RFC paths.
    pub(super) async fn form(&self, who: &str, path: &str, form: &str) -> Got {
        send(&self.desk, "POST", path, &[FORM, ("authorization", &basic_header(who, who))], form).await
    }

    /// An introspection by rs that is answered 200; its JSON.
    pub(super) async fn introspect(&self, form: &str) -> Value {
        let got = self.form("rs", "/introspect", form).await;
        assert_eq!(got.status, 200, "{form}: {}", got.body);
        got.json()
    }

    /// The question of a gateway.
    pub(super) async fn authorize(&self, token: &str, headers: &[(&str, &str)]) -> Got {
        let (gateway, bearer) = (basic_header("rs", "rs"), format!("Bearer {token}"));
        let mut all = vec![("tokenscope-authorization", gateway.as_str()), ("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        send(&self.desk, "GET", "/authorize", &all, "").await
    }
}
