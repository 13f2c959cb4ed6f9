use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::doors::Swap;
use super::*;
use crate::certs::{Authority, LOCAL_NAMES};
use crate::feed::News;
use crate::server::Shutdown;

const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// What happened, in order.
type Story = Arc<Mutex<Vec<&'static str>>>;

fn told_story(story: &Story) -> Vec<&'static str> {
    story.lock().expect("the story").clone()
}

#[derive(Default)]
struct FakeStore {
    story: Story,
    snapshot_fails: bool,
    close_fails: bool,
    poisoned: AtomicBool,
}

impl StoreControl for FakeStore {
    fn readings(&self) -> StoreReadings {
        StoreReadings { revision: 7, tokens: 3, ..StoreReadings::default() }
    }

    fn snapshot_now(&self) -> Result<(), String> {
        self.story.lock().expect("the story").push("snapshot");
        if self.snapshot_fails { Err("no space".into()) } else { Ok(()) }
    }

    fn poisoned(&self) -> Option<String> {
        self.poisoned.load(Ordering::Relaxed).then(|| "sync failed".into())
    }

    fn close(&self) -> Result<(), String> {
        self.story.lock().expect("the story").push("close");
        if self.close_fails { Err("no space".into()) } else { Ok(()) }
    }
}

struct FakeDoor {
    door: Door,
    story: Story,
    shutdown: Shutdown,
    /// It ends when the shutdown has come so far.
    ends_at: Phase,
    refuses: Arc<AtomicBool>,
    failed: bool,
}

impl OpenDoor for FakeDoor {
    fn door(&self) -> Door {
        self.door
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    fn prepare(&self, _: &Material) -> Result<Swap<'_>, String> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err("refused, on purpose".into());
        }
        let story = self.story.clone();
        Ok(Box::new(move || story.lock().expect("the story").push("swap")))
    }

    fn has_failed(&self) -> bool {
        self.failed
    }

    fn join(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let Self { mut shutdown, ends_at, story, .. } = *self;
        Box::pin(async move {
            shutdown.wait_for(|phase| *phase >= ends_at).await.expect("a shutdown");
            story.lock().expect("the story").push(if ends_at == Phase::Closed { "cut" } else { "drained" });
        })
    }
}

/// A directory with certificates, and a configuration on free ports.
struct House {
    dir: tempfile::TempDir,
    config: Config,
}

impl House {
    fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let now = Clock::system(Timestamp::ZERO).now();
        let authority = Authority::open_or_create(dir.path(), "test", now).expect("authority");
        authority.server(LOCAL_NAMES, now).expect("signed").write(dir.path(), "server").expect("written");
        let config = Self::write(dir.path(), more);
        Self { dir, config }
    }

    fn write(dir: &Path, more: &str) -> Config {
        let text = format!(
            "[server]\ndata_dir = \"data\"\nissuer = \"https://id.example\"\nadmin_address = \"127.0.0.1:0\"\n\
             drain_wait = \"0s\"\ndrain_deadline = \"50ms\"\n[tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
             client_ca = \"ca.pem\"\n{more}"
        );
        let path = dir.join("tokenscope.toml");
        std::fs::write(&path, text).expect("written");
        Config::load(&path).expect("a configuration")
    }

    async fn ground(&self) -> Ground {
        Ground::prepare(self.config.clone(), Instant::now()).await.expect("the ground")
    }
}

/// A service over fakes.
struct Service {
    daemon: Daemon,
    tell: mpsc::Sender<Told>,
    story: Story,
    callers: Arc<ArcSwap<Callers>>,
    watched: Arc<Watched>,
    refuses: Arc<AtomicBool>,
    feed: Feed,
}

async fn run(house: &House, store: FakeStore, ends_at: Phase, failed: bool) -> Service {
    let ground = house.ground().await;
    let (callers, watched) = (ground.callers.clone(), ground.watched.clone());
    let (phase, shutdown) = watch::channel(Phase::Open);
    let (tell, told) = mpsc::channel(8);
    let (story, refuses) = (store.story.clone(), Arc::new(AtomicBool::new(false)));
    let door = |door, refuses| -> Box<dyn OpenDoor> {
        Box::new(FakeDoor { door, story: story.clone(), shutdown: shutdown.clone(), ends_at, refuses, failed })
    };
    // The last door is the one that may refuse: by then the first has agreed.
    let doors = vec![door(Door::Quic, Arc::default()), door(Door::Https, refuses.clone())];
    let store = Arc::new(store);
    watched.enter(store.clone());
    let feed = feed();
    let daemon = ground.run(store, feed.clone(), doors, phase, told).await.expect("running");
    Service { daemon, tell, story, callers, watched, refuses, feed }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

/// Waits until `holds`, for ten seconds at most.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A feed nobody follows.
fn feed() -> Feed {
    Feed::new(&crate::feed::Options::new(crate::domain::Epoch(1), crate::domain::Sequence::ZERO, [1; 24]))
}

#[tokio::test]
async fn a_stop_goes_from_the_roof_down() {
    let house = House::new("");
    let service = run(&house, FakeStore::default(), Phase::Draining, false).await;
    let admin = service.daemon.admin;
    assert!(get(admin, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(admin, "/metrics").await;
    for line in ["tokenscope_revision 7\n", "tokenscope_ready 1\n", "tokenscope_tokens 3\n", "stage=\"ready\""] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    service.tell.send(Told::Stop).await.expect("told");
    assert_eq!(service.daemon.ended().await, Exit::Ok);
    assert_eq!(told_story(&service.story), ["drained", "drained", "snapshot", "close"]);
    assert!(TcpStream::connect(admin).await.is_err(), "the admin listener is closed");
}

#[tokio::test]
async fn work_that_does_not_end_is_cut_at_the_deadline() {
    let house = House::new("");
    let service = run(&house, FakeStore::default(), Phase::Closed, false).await;
    service.tell.send(Told::Stop).await.expect("told");
    assert_eq!(service.daemon.ended().await, Exit::Ok);
    assert_eq!(told_story(&service.story), ["cut", "cut", "snapshot", "close"]);
}

#[tokio::test]
async fn what_fails_at_the_end_is_told_by_the_exit_code_and_ends_nothing_early() {
    for (snapshot_fails, close_fails) in [(true, false), (false, true), (true, true)] {
        let house = House::new("");
        let store = FakeStore { snapshot_fails, close_fails, ..FakeStore::default() };
        let service = run(&house, store, Phase::Draining, false).await;
        service.tell.send(Told::Stop).await.expect("told");
        assert_eq!(service.daemon.ended().await, Exit::RunTime);
        assert_eq!(told_story(&service.story), ["drained", "drained", "snapshot", "close"]);
    }
}

#[tokio::test]
async fn a_poisoned_journal_and_a_failed_door_end_the_process() {
    let house = House::new("");
    let store = FakeStore { poisoned: AtomicBool::new(true), ..FakeStore::default() };
    let service = run(&house, store, Phase::Draining, false).await;
    assert_eq!(service.daemon.ended().await, Exit::RunTime);
    assert_eq!(told_story(&service.story), ["drained", "drained", "close"], "no snapshot of what may not be durable");

    let house = House::new("");
    let service = run(&house, FakeStore::default(), Phase::Draining, true).await;
    assert_eq!(service.daemon.ended().await, Exit::RunTime);
    assert_eq!(told_story(&service.story), ["drained", "drained", "snapshot", "close"]);
}

#[tokio::test]
async fn snapshots_are_written_in_their_interval() {
    let house = House::new("[snapshot]\ninterval = \"1s\"\n");
    let service = run(&house, FakeStore::default(), Phase::Draining, false).await;
    until("a snapshot", || told_story(&service.story).contains(&"snapshot")).await;
    service.tell.send(Told::Stop).await.expect("told");
    assert_eq!(service.daemon.ended().await, Exit::Ok);
}

#[tokio::test]
async fn a_reload_takes_over_everything_or_nothing() {
    let house = House::new(&format!("[[caller]]\nname = \"one\"\nsecret_sha256 = \"{HASH}\"\n"));
    let service = run(&house, FakeStore::default(), Phase::Draining, false).await;
    let knows = |name: &str| service.callers.load().by_name(name).is_some();
    let metric = |line: &str| service.watched.render().contains(&format!("{line}\n"));
    let reload = async || service.tell.send(Told::Reload).await.expect("told");
    let failed = || metric("tokenscope_config_last_reload_successful 0");
    let two = format!("[[caller]]\nname = \"two\"\nsecret_sha256 = \"{HASH}\"\n");
    assert!(!failed() && knows("one"));
    let mut follower = service.feed.follow(None, Duration::ZERO).expect("room").follower;
    let mut starts_over = || matches!(follower.news(1, &mut Vec::new()), News::StartOver { .. });

    service.refuses.store(true, Ordering::Relaxed);
    House::write(house.dir.path(), &two);
    reload().await;
    until("a refusing door fails the reload", failed).await;
    assert!(knows("one") && !knows("two"), "callers are as they were");
    assert!(told_story(&service.story).is_empty(), "no door was swapped, the willing one neither");
    assert!(!starts_over());

    service.refuses.store(false, Ordering::Relaxed);
    reload().await;
    until("the reload is taken over", || !failed()).await;
    assert!(!knows("one") && knows("two"));
    assert!(starts_over(), "near-caches hold what the old callers were told");
    assert_eq!(told_story(&service.story), ["swap", "swap"]);

    let path = house.dir.path().join("tokenscope.toml");
    let sound = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, format!("{sound}colour = 1\n")).expect("written");
    reload().await;
    until("an unknown key fails the reload", failed).await;
    assert!(knows("two"));

    std::fs::write(&path, &sound).expect("written");
    let key = std::fs::read(house.dir.path().join("server.key")).expect("read");
    std::fs::write(house.dir.path().join("server.key"), b"x").expect("written");
    reload().await;
    std::fs::write(&path, sound.replace("two", "three")).expect("written");
    until("a broken key still fails the reload", failed).await;
    assert!(knows("two") && !knows("three"));

    std::fs::write(house.dir.path().join("server.key"), key).expect("written");
    reload().await;
    until("all is well again", || !failed()).await;
    assert!(knows("three"));
    service.tell.send(Told::Stop).await.expect("told");
    assert_eq!(service.daemon.ended().await, Exit::Ok);
}

#[tokio::test]
async fn a_start_that_fails_says_why_and_leaves_nothing() {
    let house = House::new("");
    let (_tell, told) = mpsc::channel(1);
    std::fs::write(house.dir.path().join("server.pem"), b"x").expect("written");
    let broken = start(house.config.clone(), Instant::now(), told, |_| Err(StartError::NoDoors)).await;
    let error = broken.expect_err("no certificate");
    assert_eq!((error.exit(), error.exit().code()), (Exit::Configuration, 78));
    assert!(!house.dir.path().join("data").exists(), "nothing is made before the configuration is sound");

    let house = House::new("");
    let ground = house.ground().await;
    let mut second = house.config.clone();
    second.server.admin_address = ground.admin.address;
    let taken = Ground::prepare(second, Instant::now()).await.err().expect("the address is taken");
    assert_eq!(taken.exit().code(), 1);
    assert!(taken.to_string().contains("server.admin_address: cannot listen on 127.0.0.1:"), "{taken}");

    let admin = ground.admin.address;
    let store = Arc::new(FakeStore::default());
    let (phase, _) = watch::channel(Phase::Open);
    let (_tell, told) = mpsc::channel(1);
    let none = ground.run(store.clone(), feed(), Vec::new(), phase, told).await.expect_err("no doors");
    assert!(matches!(none, StartError::NoDoors));
    assert_eq!(told_story(&store.story), ["close"]);
    assert!(TcpStream::connect(admin).await.is_err(), "the admin listener is closed");

    let (_tell, told) = mpsc::channel(1);
    let failing = start(house.config.clone(), Instant::now(), told, |ground| {
        assert!(!ground.readiness.is_ready());
        Err(StartError::Store("the journal is damaged at sequence 7".into()))
    });
    let error = failing.await.expect_err("no store");
    assert_eq!(error.exit(), Exit::RunTime);
    assert!(error.to_string().contains("damaged at sequence 7"), "{error}");
}

#[tokio::test]
async fn the_ground_is_not_ready_keeps_its_keys_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::new("");
    let ground = house.ground().await;
    let journal_key = ground.secrets.journal().newest().bytes;
    let answer = get(ground.admin.address, "/readyz?verbose").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("[-] doors: waiting"), "{answer}");
    assert!(get(ground.admin.address, "/metrics").await.contains("tokenscope_ready 0\n"));
    let mode = std::fs::metadata(house.dir.path().join("data")).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    drop(ground);
    assert_eq!(house.ground().await.secrets.journal().newest().bytes, journal_key);
}

#[test]
fn exit_codes_are_the_documented_ones() {
    let codes = [Exit::Ok, Exit::RunTime, Exit::Usage, Exit::Configuration].map(Exit::code);
    assert_eq!(codes, [0, 1, 2, 78]);
}
