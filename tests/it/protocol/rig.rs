//! A real server on loopback with certificates of its own, and callers of every sort.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokenscope::client::{Client, Options};
use tokenscope::clock::Clock;
use tokenscope::domain::mint::TokenPrefix;
use tokenscope::domain::{
    Audience, CallerId, ClientId, Entry, Epoch, Expiry, GrantId, Pepper, Place, Reach, Sequence, SubjectId, Timestamp,
    TokenTimes,
};
use tokenscope::feed::{Feed, Options as FeedOptions};
use tokenscope::journal::{ChainHash, Head, Journal, JournalError, Options as JournalOptions, RedbJournal};
use tokenscope::server::credentials::{Callers, CredentialsOf};
use tokenscope::server::quic::QuicDoor;
use tokenscope::server::quic_limits::QuicOptions;
use tokenscope::server::stats::Stats;
use tokenscope::server::tls::TlsMaterial;
use tokenscope::server::tunnel::Tunnel;
use tokenscope::server::{Phase, Shared};
use tokenscope::service::caller::{AskRight, Caller, Only, RevokeRight, Rights};
use tokenscope::service::request::{ChangeRequest, Done, TokenTerms};
use tokenscope::service::{Options as ServiceOptions, Service};
use tokenscope::store::{Control, Limits};
use tokio::sync::watch;

/// What the clock says.
pub const NOW: Timestamp = Timestamp::from_raw(1_700_000_000);

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// A certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Ca {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for `name`.
    pub fn issue(&self, name: &str) -> Identity {
        self.issue_with(name, |_| {})
    }

    /// The same, after `change` has had a look at it.
    pub fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

/// Somebody with every right.
fn almighty() -> Caller {
    let ask = AskRight { audiences: Only::All, workspaces: Only::All };
    Caller {
        id: CallerId::parse("everything").unwrap(),
        rights: Rights {
            ask: Some(ask),
            issue: true,
            revoke: Some(RevokeRight::Anything),
            administer: Some(Only::All),
            define: true,
            operate: true,
        },
    }
}

fn caller(id: &str, rights: Rights) -> (Caller, CredentialsOf) {
    let name = format!("{id}.test");
    let shows = CredentialsOf { certificate_name: Some(name), ..CredentialsOf::default() };
    (Caller { id: CallerId::parse(id).unwrap(), rights }, shows)
}

/// The callers of every rig: their certificates are for `<id>.test`.
pub fn callers() -> Vec<(Caller, CredentialsOf)> {
    let only_a = Only::These([String::from("A")].into());
    vec![
        caller("everything", almighty().rights),
        caller(
            "only-a",
            Rights { ask: Some(AskRight { audiences: Only::All, workspaces: only_a }), ..Rights::default() },
        ),
        caller("nothing", Rights::default()),
    ]
}

/// A server, and what is behind it.
pub struct Rig {
    pub ca: Arc<Ca>,
    pub shared: Shared,
    pub door: Option<QuicDoor>,
    pub phase: watch::Sender<Phase>,
    pub address: SocketAddr,
    /// The grant of `token`.
    pub grant: GrantId,
    /// Everything that was made durable, in order.
    pub list: List,
    _writer: Control,
    _folder: tempfile::TempDir,
}

/// A token of ada's for the app zapper: `tasks:read` in A, `tasks:write` in A/1, `tasks:read` in B.
pub const TOKEN: &str = "a token of ada's";

pub fn place(text: &str) -> Place {
    Place::parse(text).unwrap()
}

pub fn times() -> TokenTimes {
    TokenTimes { issued: NOW, not_before: NOW, expiry: Expiry::At(NOW.plus(3_600)) }
}

/// A server's start: each of its feeds has another incarnation.
fn seed() -> [u8; 24] {
    static STARTS: AtomicU64 = AtomicU64::new(0);
    let mut seed = [5; 24];
    seed[16..].copy_from_slice(&STARTS.fetch_add(1, Relaxed).to_le_bytes());
    seed
}

/// The journal, and what went into it, for tests to look at.
struct Noted(RedbJournal, List);

impl Journal for Noted {
    fn head(&self) -> Head {
        self.0.head()
    }

    fn commit(&mut self, batch: &[Entry]) -> Result<Head, JournalError> {
        let head = self.0.commit(batch)?;
        self.1.lock().unwrap().extend_from_slice(batch);
        Ok(head)
    }

    fn read_after(
        &self,
        after: Sequence,
        chain: Option<ChainHash>,
        visit: &mut dyn FnMut(&Entry, ChainHash) -> Result<(), JournalError>,
    ) -> Result<Head, JournalError> {
        self.0.read_after(after, chain, visit)
    }

    fn discard_through(&mut self, through: Sequence) -> Result<(), JournalError> {
        self.0.discard_through(through)
    }

    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn space_left(&self) -> Option<u64> {
        self.0.space_left()
    }

    fn close(self: Box<Self>) -> Result<(), JournalError> {
        Box::new(self.0).close()
    }
}

/// A list that is noted.
type List = Arc<Mutex<Vec<Entry>>>;

fn service(folder: &Path, epoch: Epoch, lease: Duration) -> (Service, Control, List) {
    let journal = RedbJournal::create(&folder.join("journal"), &[7; 32], epoch, JournalOptions::default()).unwrap();
    let list = List::default();
    let (index, writer) = tokenscope::index::new();
    let feed = Feed::new(&FeedOptions { lease, ..FeedOptions::new(epoch, Sequence::ZERO, seed()) });
    let (committer, control) =
        tokenscope::store::start(writer, Box::new(Noted(journal, list.clone())), feed, Limits::default());
    let options = ServiceOptions {
        default_audience: vec![Audience::parse("api").unwrap()],
        prefix: TokenPrefix::parse("tks").unwrap(),
    };
    (Service::new(index, committer, epoch, Pepper::from_bytes(&[9; 16]), options), control, list)
}

impl Rig {
    /// A server with the usual settings.
    pub async fn start() -> Self {
        Self::start_with(QuicOptions::default(), Tunnel::closed()).await
    }

    /// A server with these settings and this API.
    pub async fn start_with(options: QuicOptions, tunnel: Tunnel) -> Self {
        Self::start_under(options, tunnel, Ca::new().into()).await
    }

    /// A server under this certificate authority.
    pub async fn start_under(options: QuicOptions, tunnel: Tunnel, ca: Arc<Ca>) -> Self {
        Self::start_leasing(Duration::from_secs(60), options, tunnel, ca).await
    }

    /// A server whose followers have leases of this length.
    pub async fn start_leasing(lease: Duration, options: QuicOptions, tunnel: Tunnel, ca: Arc<Ca>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let epoch = Epoch(0x0000_0068_0000_0001);
        let (service, control, list) = service(folder.path(), epoch, lease);
        let shared = Shared {
            service,
            callers: Arc::new(ArcSwap::from_pointee(Callers::new(callers()))),
            clock: Clock::manual(NOW),
            stats: Arc::new(Stats::default()),
        };
        let grant = fill(&shared.service).await;
        let (phase, shutdown) = watch::channel(Phase::Open);
        let material = material(&ca);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let door = QuicDoor::open(any, options, &material, shared.clone(), tunnel, shutdown).unwrap();
        let address = door.local_addr();
        Self { ca, shared, door: Some(door), phase, address, grant, list, _writer: control, _folder: folder }
    }

    /// Opens the door again where it was.
    pub fn open_again(&mut self, options: QuicOptions) {
        let (phase, shutdown) = watch::channel(Phase::Open);
        self.phase = phase;
        let material = material(&self.ca);
        let shared = self.shared.clone();
        let door = QuicDoor::open(self.address, options, &material, shared, Tunnel::closed(), shutdown).unwrap();
        self.door = Some(door);
    }

    /// Makes a change with every right.
    pub async fn change(&self, request: ChangeRequest) -> Done {
        self.shared.service.change(&almighty(), request, NOW).await.unwrap()
    }

    pub fn options(&self, caller: &str) -> Options {
        self.options_as(&self.ca.issue(&format!("{caller}.test")))
    }

    pub fn options_as(&self, identity: &Identity) -> Options {
        let servers = vec![(self.address, "localhost".to_owned())];
        let mut options =
            Options::new(servers, self.ca.pem.as_str(), identity.certificate.as_str(), identity.key.as_str());
        // A machine that is busy with other tests must not fail these.
        options.deadline = Duration::from_secs(20);
        options.connect_deadline = Duration::from_secs(20);
        options
    }

    /// A client that is this caller.
    pub async fn client(&self, caller: &str) -> Client {
        Client::connect(self.options(caller)).await.unwrap()
    }

    /// Lets no new replies of the door go by: waits until every thread of it has ended.
    pub async fn closed(&mut self) {
        self.phase.send_replace(Phase::Closed);
        if let Some(door) = self.door.take() {
            tokio::task::spawn_blocking(move || door.join()).await.unwrap();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Closed);
    }
}

pub fn material(ca: &Ca) -> TlsMaterial {
    let server = ca.issue("localhost");
    TlsMaterial::from_pem(server.certificate.as_bytes(), server.key.as_bytes(), ca.pem.as_bytes()).unwrap()
}

async fn fill(service: &Service) -> GrantId {
    let by = almighty();
    let change = |request| service.change(&by, request, NOW);
    for scope in ["tasks:read", "tasks:write", "projects:read"] {
        change(ChangeRequest::AddScope(scope.into())).await.unwrap();
    }
    let (ada, zapper) = (SubjectId::parse("ada").unwrap(), ClientId::parse("zapper").unwrap());
    change(ChangeRequest::RegisterClient(zapper.clone())).await.unwrap();
    for at in ["A", "B"] {
        change(ChangeRequest::AddMember(ada.clone(), place(at))).await.unwrap();
    }
    let pair = |at: &str, scope: &str| (Reach::At(place(at)), vec![Box::from(scope)]);
    let grant = ChangeRequest::MakeGrant {
        subject: ada,
        client: zapper,
        access: vec![pair("A", "tasks:read"), pair("A/1", "tasks:write"), pair("B", "tasks:read")],
        expiry: Expiry::Never,
        audience: vec![Audience::parse("api").unwrap()],
    };
    let grant = change(grant).await.unwrap().grant.unwrap();
    let token = TokenTerms { grant, times: times(), audience: None, confirmation: None, narrowed: None };
    change(ChangeRequest::RegisterToken { digest: tokenscope::client::digest(TOKEN), token }).await.unwrap();
    grant
}
