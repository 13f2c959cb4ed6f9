//! What a server for development needs before it starts: a directory, certificates, callers, a configuration, data.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

use super::file::{DevCaller, DevFile, Samples, tokens};
use crate::cli::rooms::{Addresses, Rooms};
use crate::cli::{Failure, progress, show};
use crate::disk::DataDir;
use crate::domain::digest::to_hex;
use crate::domain::{Timestamp, TokenDigest};
use crate::import::{self, Tally};
use crate::samples::{self, AUDIENCE, PREFIX, story};

/// The name in the server's certificate.
pub const SERVER_NAME: &str = "localhost";

/// Who there is, and what each may do: name, words for people, lines of the configuration. The rights are separate as
/// row S11 of the story wants them; only `admin` has them all.
pub const CALLERS: [(&str, &[&str], &str); 8] = [
    (
        "admin",
        &["ask", "issue", "revoke", "administer", "define", "operate"],
        "ask = { audiences = \"all\", workspaces = \"all\" }\nissue = true\nrevoke = \"anything\"\n\
         administer = \"all\"\ndefine = true\noperate = true\n",
    ),
    ("api", &["ask"], "ask = { audiences = [\"https://api.example\"], workspaces = \"all\" }\n"),
    ("issuer", &["issue", "revoke"], "issue = true\nrevoke = \"anything\"\n"),
    ("owner", &["define"], "define = true\n"),
    ("manager-1579", &["administer 1579"], "administer = [\"1579\"]\n"),
    ("manager-1592", &["administer 1592"], "administer = [\"1592\"]\n"),
    ("operator", &["ask", "operate"], "ask = { audiences = \"all\", workspaces = \"all\" }\noperate = true\n"),
    ("time-tracker", &["revoke its own tokens"], "revoke = { own_tokens_of = \"time-tracker\" }\n"),
];

/// A directory for a server: who may look into it is its owner alone.
///
/// # Errors
/// It cannot be made.
pub fn directory(path: &Path) -> Result<PathBuf, Failure> {
    let failed =
        |error: std::io::Error| Failure::run_time(format!("the directory {} cannot be made: {error}", path.display()));
    if !path.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    }
    path.canonicalize().map_err(failed)
}

/// Makes sure that no server runs on `directory`, before anything is written: its `dev.json` must go on to lead to it.
///
/// # Errors
/// One does; the message names it.
pub fn is_free(directory: &Path) -> Result<(), Failure> {
    let data = directory.join("data");
    if !data.is_dir() {
        return Ok(());
    }
    // Taken and given back at once; whoever is quicker still has the lock to say so.
    DataDir::open(&data).map(drop).map_err(|error| Failure::run_time(error.to_string()))
}

/// The file for a server in `directory`: the one that is there, or a new one that says what will be.
///
/// # Errors
/// No randomness for secrets.
pub fn file(directory: &Path, seed: u64, tokens_wanted: u64, now: Timestamp) -> Result<DevFile, Failure> {
    let path = directory.join("dev.json");
    if path.exists() {
        return DevFile::read(&path);
    }
    let certificates = directory.join("certs");
    let caller = |(name, roles, _): &(&str, &[&str], &str)| {
        Ok(DevCaller {
            name: (*name).into(),
            roles: roles.iter().map(|role| (*role).into()).collect(),
            certificate_file: certificates.join(format!("{name}.pem")),
            key_file: certificates.join(format!("{name}.key")),
            client_id: (*name).into(),
            client_secret: secret()?,
        })
    };
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(DevFile {
        quic: nowhere,
        https: nowhere,
        https_url: String::new(),
        admin: nowhere,
        server_name: SERVER_NAME.into(),
        ca_file: certificates.join("ca.pem"),
        config_file: directory.join("tokenscope.toml"),
        default_caller: "admin".into(),
        callers: CALLERS.iter().map(caller).collect::<Result<_, Failure>>()?,
        tokens: tokens(&story::samples(seed)),
        samples: Samples { seed, tokens: tokens_wanted, made_at: now.raw(), loaded: false },
    })
}

/// 192 random bits in hex.
fn secret() -> Result<String, Failure> {
    let mut bytes = [0; 24];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Failure::run_time("the system gives no randomness"))?;
    Ok(to_hex(&bytes))
}

/// A random seed for samples.
///
/// # Errors
/// The system gives no randomness.
pub fn seed() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Failure::run_time("the system gives no randomness"))?;
    // Within what every reader of JSON takes for a whole number.
    Ok(u64::from_le_bytes(bytes) >> 11)
}

/// Chooses loopback addresses: those of last time if they are still free, else `preferred`, else any. Both doors share
/// a port number.
///
/// # Errors
/// No port is free.
pub fn addresses(last: &DevFile, preferred: Option<(u16, u16)>) -> Result<Addresses, Failure> {
    let (door, admin) = preferred.unwrap_or((0, 0));
    let door = [last.https.port(), door].into_iter().filter(|port| *port != 0).find_map(both_free);
    let door = door.or_else(|| (0..64).find_map(|_| both_free(0)));
    let door = door.ok_or_else(|| Failure::run_time("no port of this machine is free for UDP and TCP at once"))?;
    let taken = |port: &u16| *port != 0 && *port != door;
    let admin = [last.admin.port(), admin].into_iter().filter(taken).find_map(tcp_free).or_else(|| tcp_free(0));
    let admin = admin.ok_or_else(|| Failure::run_time("no TCP port of this machine is free"))?;
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(Addresses { quic: at(door), https: at(door), admin: at(admin) })
}

fn tcp_free(port: u16) -> Option<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?.local_addr().ok().map(|address| address.port())
}

fn both_free(port: u16) -> Option<u16> {
    // The listener is held while the UDP port is tried.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    let port = listener.local_addr().ok()?.port();
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|_| port)
}

/// Writes certificates, configuration and `dev.json` for a server at these addresses.
///
/// # Errors
/// Something cannot be written.
pub fn write(file: &mut DevFile, at: Addresses, rooms: &dyn Rooms, now: Timestamp) -> Result<(), Failure> {
    let directory = file.config_file.parent().map(Path::to_owned).unwrap_or_default();
    let names: Vec<&str> = CALLERS.iter().map(|(name, ..)| *name).collect();
    rooms.make_certificates(&self::directory(&directory.join("certs"))?, &names, now)?;
    place(file, at);
    let failed = |error: std::io::Error| Failure::run_time(format!("{}: {error}", file.config_file.display()));
    let mut config = OpenOptions::new();
    config.write(true).create(true).truncate(true).mode(0o600);
    config.open(&file.config_file).and_then(|mut out| out.write_all(config_text(file).as_bytes())).map_err(failed)?;
    file.write(&directory.join("dev.json"))
}

fn place(file: &mut DevFile, at: Addresses) {
    (file.quic, file.https, file.admin) = (at.quic, at.https, at.admin);
    file.https_url = format!("https://{SERVER_NAME}:{}", at.https.port());
}

/// Writes where the server really listens into `dev.json`.
///
/// # Errors
/// It cannot be written.
pub fn write_addresses(file: &mut DevFile, at: Addresses) -> Result<(), Failure> {
    place(file, at);
    file.write(&file.config_file.with_file_name("dev.json"))
}

/// The limits of a server for development, as they stand in its configuration. Whoever appends a table of their own takes
/// these out: a table may stand there once.
pub const LIMITS: &str = "# Everybody on this machine has the same address, and load testers play many clients with one \
                          name.\n[limits]\nquic_connections_per_address = 1024\n\
                          quic_connections_per_caller = 1024\nchanges_in_flight_per_caller = 4096\nfollowers_per_caller = 1024\n\
                          waiting_bytes_per_caller = \"256MiB\"\nhttps_connections_per_address = 1024\n\
                          https_requests_per_second = 1000000\n";

/// The configuration of a server for development.
pub fn config_text(file: &DevFile) -> String {
    let mut text = format!(
        "# Written by tokenscope for development; written again at every start.\n\n[server]\ndata_dir = \"data\"\n\
         issuer = \"{url}\"\nquic_address = \"{quic}\"\nhttps_address = \"{https}\"\nadmin_address = \"{admin}\"\n\
         token_prefix = \"{PREFIX}\"\ndefault_audience = [\"{AUDIENCE}\"]\ndrain_wait = \"10ms\"\n\n[tls]\n\
         certificate = \"certs/server.pem\"\nkey = \"certs/server.key\"\nclient_ca = \"certs/ca.pem\"\n\n\
         {LIMITS}",
        url = file.https_url,
        quic = file.quic,
        https = file.https,
        admin = file.admin,
    );
    for caller in &file.callers {
        let rights = CALLERS.iter().find(|(name, ..)| *name == caller.name).map_or("", |(.., rights)| rights);
        let secret = TokenDigest::of(caller.client_secret.as_bytes()).to_hex();
        let name = &caller.name;
        text.push_str(&format!(
            "\n[[caller]]\nname = \"{name}\"\ncertificate_name = \"{name}\"\nsecret_sha256 = \"{secret}\"\n{rights}"
        ));
    }
    text
}

/// Loads the sample data into the data directory, unless it is in. An interrupted load goes on where it stopped.
///
/// # Errors
/// The store cannot be opened or takes no more.
pub fn load(file: &mut DevFile, rooms: &dyn Rooms, draw: bool) -> Result<Tally, Failure> {
    if file.samples.loaded {
        return Ok(Tally::default());
    }
    let Samples { seed, tokens, .. } = file.samples;
    let now = file.samples.now();
    let mut store = rooms.open_for_import(&file.config_file)?;
    // Counting the lines first costs a second for a million tokens, and lets the bar know its end.
    let lines = samples::all(seed, tokens, now).count() as u64;
    let mut progress = progress::shown("sample data", lines, draw);
    let source = samples::source_digest(seed, tokens, now);
    let made = samples::all(seed, tokens, now).map(Ok);
    let tally = import::import(made, source, store.sink(), &mut *progress)
        .map_err(|error| Failure::run_time(format!("sample data: {error}")))?;
    drop(progress);
    store.finish().map_err(Failure::run_time)?;
    file.samples.loaded = true;
    file.write(&file.config_file.with_file_name("dev.json"))?;
    Ok(tally)
}

/// What was loaded, in a line.
pub fn loaded(tally: &Tally, seconds: f64) -> String {
    let [grants, tokens] = [tally.grants, tally.tokens].map(show::count);
    let rate = show::count((tally.changes as f64 / seconds.max(0.001)) as u64);
    format!("loaded {grants} grants and {tokens} tokens in {seconds:.1} s ({rate} changes/s)")
}
