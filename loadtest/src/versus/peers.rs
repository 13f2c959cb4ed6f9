//! Servers of others: found, started on the servers' core, filled, frozen while they are not the one that is measured.
//!
//! None of them keeps anything on disk beyond the directory it is given; all listen on loopback only.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::quic::tls;
use crate::driver::tcp::Tcp;
use crate::driver::{memcached, redis};
use crate::echo_server::Sizes;
use crate::options::Versus;
use crate::population::Population;
use crate::process::{Spawned, free_port, installed};
use crate::target::{Target, read};

/// As many bytes as a check by numbers and its answer have.
pub const ECHO_SIZES: Sizes = Sizes { question: 44, answer: 16 };

/// The secret of the caller that asks oidc-provider; it exists for the length of a run and guards nothing.
pub const OIDC_SECRET: &str = "0123456789abcdef0123456789abcdef";

/// How long a peer may take to start.
const READY: Duration = Duration::from_secs(30);

/// A server that can be measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    /// Ours.
    Ours,
    /// The bare echo.
    Echo,
    /// The echo that hashes every digest.
    EchoHashed,
    /// Redis.
    Redis,
    /// The same Redis over TLS.
    RedisTls,
    /// Memcached, one thread.
    Memcached,
    /// A fixed page over TLS.
    Nginx,
    /// RFC 7662 in JavaScript, in memory.
    OidcProvider,
}

impl Who {
    /// What it is called in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Echo => "echo",
            Self::EchoHashed => "echo with hash",
            Self::Redis => "redis",
            Self::RedisTls => "redis over TLS",
            Self::Memcached => "memcached",
            Self::Nginx => "nginx",
            Self::OidcProvider => "oidc-provider",
        }
    }
}

struct Running {
    spawned: Spawned,
    tcp: Tcp,
    certificate: Option<PathBuf>,
}

/// All peers.
pub struct Peers {
    running: BTreeMap<Who, Running>,
    /// What is missing, and how to install it.
    pub missing: BTreeMap<String, String>,
    /// Versions of what is there.
    pub versions: BTreeMap<String, String>,
    /// A token that oidc-provider knows.
    pub oidc_token: Option<String>,
    redis_directory: PathBuf,
    redis_keys: u64,
}

impl Peers {
    /// Starts whatever is installed and fills it.
    ///
    /// # Errors
    /// The echo, which is always there, cannot be started; or a peer that is installed does not work.
    pub fn start(
        directory: &Path,
        target: &Target,
        population: &Arc<Population>,
        core: Option<usize>,
        options: &Versus,
    ) -> Result<Self, String> {
        let mut peers = Self {
            running: BTreeMap::new(),
            missing: BTreeMap::new(),
            versions: BTreeMap::new(),
            oidc_token: None,
            redis_directory: directory.join("redis"),
            redis_keys: 0,
        };
        peers.start_echo(directory, core, Who::Echo)?;
        peers.start_echo(directory, core, Who::EchoHashed)?;
        peers.start_redis(target, population, core)?;
        peers.start_memcached(directory, population, core)?;
        peers.start_nginx(directory, target, core)?;
        peers.start_oidc(directory, core, options.oidc_provider.as_deref())?;
        Ok(peers)
    }

    /// Whether it can be measured.
    pub fn has(&self, who: Who) -> bool {
        who == Who::Ours || self.at(who).is_some()
    }

    /// How it is reached.
    pub fn at(&self, who: Who) -> Option<Tcp> {
        let running = self.running.get(&process_of(who))?;
        match who {
            Who::RedisTls => Some(Tcp {
                address: SocketAddr::from((Ipv4Addr::LOCALHOST, running.tcp.address.port().checked_add(1)?)),
                tls: self.redis_tls(),
            }),
            _ => Some(running.tcp.clone()),
        }
    }

    fn redis_tls(&self) -> Option<(Arc<rustls::ClientConfig>, String)> {
        let ca = std::fs::read(self.redis_directory.join("ca.pem")).ok()?;
        Some((Arc::new(tls(&ca, None, &[]).ok()?), "localhost".to_owned()))
    }

    /// Nginx, asked for HTTP/2.
    ///
    /// # Errors
    /// It is not there, or TLS is not in order.
    pub fn nginx_over_http2(&self, target: &Target) -> Result<Tcp, String> {
        let tcp = self.at(Who::Nginx).ok_or("nginx is not there")?;
        let config = tls(&target.ca_pem, None, &[b"h2"])?;
        Ok(Tcp { tls: tcp.tls.map(|(_, name)| (Arc::new(config), name)), ..tcp })
    }

    /// Its process.
    pub fn pid(&self, who: Who) -> Option<u32> {
        self.running.get(&process_of(who)).map(|it| it.spawned.pid())
    }

    /// The certificate it shows.
    ///
    /// # Errors
    /// It has none, or the file is gone.
    pub fn certificate_of(&self, who: Who) -> Result<Vec<u8>, String> {
        let file = self.running.get(&who).and_then(|it| it.certificate.as_deref());
        read(file.ok_or("it has no certificate")?)
    }

    /// Freezes everybody but one.
    pub fn only(&self, who: Who, ours: &Spawned) {
        let who = process_of(who);
        self.running.iter().filter(|(it, _)| **it != who).for_each(|(_, it)| it.spawned.freeze());
        if who != Who::Ours {
            ours.freeze();
        }
    }

    /// Lets everybody go on.
    pub fn thaw(&self, ours: &Spawned) {
        self.running.values().for_each(|it| it.spawned.thaw());
        ours.thaw();
    }

    fn run(&mut self, who: Who, command: Command, core: Option<usize>, log: &Path, tcp: Tcp) -> Result<(), String> {
        let mut spawned = Spawned::start(command, who.name(), core, log)?;
        spawned.wait_for(READY, log, || TcpStream::connect(tcp.address).is_ok())?;
        self.running.insert(who, Running { spawned, tcp, certificate: None });
        Ok(())
    }

    fn start_echo(&mut self, directory: &Path, core: Option<usize>, who: Who) -> Result<(), String> {
        let directory = directory.join(who.name().replace(' ', "-"));
        make(&directory)?;
        let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
        command.arg("echo-server").arg("--directory").arg(&directory);
        command.args(["--question-bytes", &ECHO_SIZES.question.to_string()]);
        command.args(["--answer-bytes", &ECHO_SIZES.answer.to_string()]);
        if who == Who::EchoHashed {
            command.arg("--hashed");
        }
        let log = directory.join("log");
        let file = directory.join("echo.address");
        // A directory that was used before has the address of then. Before the start: a quick server would lose its own.
        let _ = std::fs::remove_file(&file);
        let mut spawned = Spawned::start(command, who.name(), core, &log)?;
        let mut address = None;
        spawned.wait_for(READY, &log, || {
            address = std::fs::read_to_string(&file).ok().and_then(|text| text.parse().ok());
            address.is_some()
        })?;
        let address = address.ok_or("the echo server says no address")?;
        let certificate = Some(directory.join("echo.pem"));
        self.running.insert(who, Running { spawned, tcp: Tcp { address, tls: None }, certificate });
        Ok(())
    }

    fn missing(&mut self, who: Who, how: &str) {
        self.missing.insert(who.name().to_owned(), how.to_owned());
    }

    fn start_redis(&mut self, target: &Target, population: &Population, core: Option<usize>) -> Result<(), String> {
        let Some(program) = installed("redis-server") else {
            self.missing(Who::Redis, "Debian: apt install redis-server");
            return Ok(());
        };
        self.versions.insert("redis".to_owned(), version(&program, "--version"));
        make(&self.redis_directory.clone())?;
        let certificates = target.directory.join("certs");
        for name in ["ca.pem", "server.pem", "server.key"] {
            std::fs::copy(certificates.join(name), self.redis_directory.join(name))
                .map_err(|error| format!("{name}: {error}"))?;
        }
        self.redis_filled(population, core)
    }

    /// Starts Redis anew, with nothing but these tokens.
    ///
    /// # Errors
    /// It does not start, or refuses them.
    pub fn redis_filled(&mut self, population: &Population, core: Option<usize>) -> Result<(), String> {
        self.redis_ends();
        // What an earlier run or a restart left would be loaded.
        let _ = std::fs::remove_file(self.redis_directory.join("dump.rdb"));
        self.redis_again(core)?;
        self.redis_keys = population.hits.len() as u64;
        let tcp = self.at(Who::Redis).ok_or("Redis is gone")?;
        crate::runtime()?.block_on(redis::load(&tcp, population))
    }

    /// Starts Redis with whatever its directory has.
    ///
    /// # Errors
    /// It does not start.
    pub fn redis_again(&mut self, core: Option<usize>) -> Result<(), String> {
        let program = installed("redis-server").ok_or("Redis is gone")?;
        self.running.remove(&Who::Redis);
        let port = two_free_ports()?;
        let mut command = Command::new(program);
        command.current_dir(&self.redis_directory).args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--tls-port", &(port + 1).to_string()]);
        command.args(["--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.pem"]);
        command.args(["--tls-auth-clients", "no", "--tls-ciphersuites", "TLS_AES_128_GCM_SHA256"]);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let log = self.redis_directory.join("log");
        self.run(Who::Redis, command, core, &log, Tcp { address, tls: None })
    }

    /// Lets go of Redis, which has to end.
    pub fn redis_ends(&mut self) {
        self.running.remove(&Who::Redis);
    }

    /// How many keys it was given.
    pub fn redis_keys(&self) -> u64 {
        self.redis_keys
    }

    fn start_memcached(
        &mut self,
        directory: &Path,
        population: &Population,
        core: Option<usize>,
    ) -> Result<(), String> {
        let Some(program) = installed("memcached") else {
            self.missing(Who::Memcached, "Debian: apt install memcached");
            return Ok(());
        };
        self.versions.insert("memcached".to_owned(), version(&program, "--version"));
        let directory = directory.join("memcached");
        make(&directory)?;
        let port = free_port()?;
        // Room for every key with what memcached adds to it, and some more.
        let megabytes = 64 + population.hits.len() * 256 / (1 << 20);
        let mut command = Command::new(program);
        command.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-t", "1", "-m", &megabytes.to_string()]);
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let tcp = Tcp { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), tls: None };
        self.run(Who::Memcached, command, core, &directory.join("log"), tcp.clone())?;
        crate::runtime()?.block_on(memcached::load(&tcp, population))
    }

    fn start_nginx(&mut self, directory: &Path, target: &Target, core: Option<usize>) -> Result<(), String> {
        let Some(program) = installed("nginx") else {
            self.missing(Who::Nginx, "Debian: apt install nginx-light");
            return Ok(());
        };
        self.versions.insert("nginx".to_owned(), version(&program, "-v"));
        let directory = directory.join("nginx");
        make(&directory)?;
        let port = free_port()?;
        let certificates = target.directory.join("certs");
        let text = nginx_configuration(port, &certificates, &directory);
        let file = directory.join("nginx.conf");
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut command = Command::new(program);
        command.arg("-p").arg(&directory).arg("-c").arg(&file).arg("-e").arg(directory.join("error.log"));
        let config = Arc::new(tls(&target.ca_pem, None, &[b"http/1.1"])?);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let tcp = Tcp { address, tls: Some((config, "localhost".to_owned())) };
        self.run(Who::Nginx, command, core, &directory.join("log"), tcp)
    }

    fn start_oidc(&mut self, directory: &Path, core: Option<usize>, from: Option<&Path>) -> Result<(), String> {
        let found = from.filter(|it| it.join("node_modules/oidc-provider").is_dir());
        let (Some(from), Some(node)) = (found, installed("node")) else {
            let how = "npm install oidc-provider@9 in some directory, and --oidc-provider DIRECTORY";
            self.missing(Who::OidcProvider, how);
            return Ok(());
        };
        let own = directory.join("oidc-provider");
        make(&own)?;
        // Next to node_modules, where its import is looked for.
        let script = from.join("tokenscope-versus.mjs");
        std::fs::write(&script, include_str!("oidc-provider.mjs"))
            .map_err(|error| format!("{}: {error}", script.display()))?;
        let file = own.join("token");
        let _ = std::fs::remove_file(&file);
        let port = free_port()?;
        let mut command = Command::new(node);
        command.arg(&script).arg(port.to_string()).arg(OIDC_SECRET).arg(&file).env("NODE_ENV", "production");
        let tcp = Tcp { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), tls: None };
        let ran = self.run(Who::OidcProvider, command, core, &own.join("log"), tcp);
        let _ = std::fs::remove_file(&script);
        ran?;
        let token = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        self.oidc_token = Some(token.trim().to_owned());
        let package = std::fs::read_to_string(from.join("node_modules/oidc-provider/package.json"));
        let package: serde_json::Value = serde_json::from_str(&package.unwrap_or_default()).unwrap_or_default();
        self.versions.insert("oidc-provider".to_owned(), package["version"].as_str().unwrap_or("unknown").to_owned());
        Ok(())
    }
}

/// Redis with and without TLS is one process.
fn process_of(who: Who) -> Who {
    if who == Who::RedisTls { Who::Redis } else { who }
}

fn nginx_configuration(port: u16, certificates: &Path, directory: &Path) -> String {
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {own}/pid;\nevents {{ worker_connections 1024; }}\n\
         http {{\n access_log off;\n keepalive_requests 1000000000;\n client_body_temp_path {own}/body;\n \
         proxy_temp_path {own}/proxy;\n fastcgi_temp_path {own}/fastcgi;\n uwsgi_temp_path {own}/uwsgi;\n \
         scgi_temp_path {own}/scgi;\n server {{\n  listen 127.0.0.1:{port} ssl http2;\n  ssl_protocols TLSv1.3;\n  \
         ssl_certificate {certs}/server.pem;\n  ssl_certificate_key {certs}/server.key;\n  location / {{\n   \
         default_type application/json;\n   return 200 '{{\"active\":true,\"scope\":\"tasks:read\",\"client_id\":\
         \"app-01\",\"sub\":\"user-1\",\"exp\":1790000000}}';\n  }}\n }}\n}}\n",
        own = directory.display(),
        certs = certificates.display(),
    )
}

fn version(program: &Path, option: &str) -> String {
    let Ok(output) = Command::new(program).arg(option).output() else { return "unknown".to_owned() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").trim().to_owned()
}

fn make(directory: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(failed)?;
    // Copies of keys lie in some of them.
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// A port that is free together with the next one.
fn two_free_ports() -> Result<u16, String> {
    for _ in 0..64 {
        let port = free_port()?;
        if port < u16::MAX && TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).is_ok() {
            return Ok(port);
        }
    }
    Err("no two free ports side by side".to_owned())
}
