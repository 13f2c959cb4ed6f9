use super::*;
use crate::certs::{Authority, LOCAL_NAMES};
use crate::domain::CallerId;
use crate::service::caller::RevokeRight;

/// The least a configuration must say.
const LEAST: &str = r#"
[server]
data_dir = "data"
issuer = "https://id.example"
[tls]
certificate = "server.pem"
key = "server.key"
client_ca = "ca.pem"
"#;
const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const NOW: Timestamp = Timestamp::from_raw(1_780_000_000);

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/tokenscope/tokenscope.toml"))
}

/// Parses the least configuration with `more` below it; the first line of `more` is line 9.
fn with(more: &str) -> Result<Config, ConfigError> {
    parse(&format!("{LEAST}{more}"))
}

/// `text` is refused, and the message has each of `parts` in it.
#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let message = parse(text).expect_err(&format!("accepted:\n{text}")).to_string();
    for part in parts {
        assert!(message.contains(part), "no {part:?} in the message\n{message}\nof\n{text}");
    }
}

#[test]
fn the_least_configuration_has_every_default() {
    let config = parse(LEAST).expect("accepted");
    let at = |path: &str| Path::new("/etc/tokenscope").join(path);
    assert_eq!(config.server.data_dir, at("data"));
    assert_eq!((&config.tls.certificate, &config.tls.key), (&at("server.pem"), &at("server.key")));
    assert_eq!(config.tls.client_ca, at("ca.pem"));
    assert_eq!(config.secrets_path(), at("data/secrets"));
    assert_eq!(config.server.quic_address, "127.0.0.1:7662".parse::<std::net::SocketAddr>().expect("address"));
    assert_eq!(config.server.https_address, config.server.quic_address);
    assert_eq!(config.base_url(), "https://id.example");
    let slash = parse(&LEAST.replace("id.example", "id.example/")).expect("accepted");
    assert_eq!((slash.server.issuer.as_str(), slash.base_url()), ("https://id.example/", "https://id.example"));
    assert_eq!(config.server.token_prefix.as_str(), "tks");
    assert_eq!(config.server.default_audience, [Audience::parse("https://id.example").expect("audience")]);
    assert_eq!(config.limits, Limits::default());
    assert_eq!((config.snapshot.interval, config.snapshot.keep), (Duration::from_secs(900), 2));
    assert_eq!(config.log, Log::default());
    assert!(config.callers().is_empty());
}

/// B25: a security option that was parsed and never used.
#[test]
fn an_unknown_key_is_refused_with_its_place_and_what_was_probably_meant() {
    for (more, place, says) in [
        ("[limits]\nhttps_conections = 3", "10:1", "unknown key `https_conections`; did you mean `https_connections`?"),
        ("[snapshot]\n  intervall = \"1m\"", "10:3", "did you mean `interval`?"),
        ("[snapshots]\ninterval = \"1m\"", "9:2", "unknown key `snapshots`; did you mean `snapshot`?"),
        ("[[caller]]\nname = \"a\"\nisue = true", "11:1", "did you mean `issue`?"),
        (
            "[[caller]]\nname = \"a\"\nask = { audience = \"all\", workspaces = \"all\" }",
            "11:9",
            "did you mean `audiences`?",
        ),
        (
            "[[caller]]\nname = \"a\"\nrevoke = { own_token_of = \"x\" }",
            "11:12",
            "`own_token_of`; did you mean `own_tokens_of`?",
        ),
        ("[log]\nformat = \"jsno\"", "10:10", "unknown value `jsno`; did you mean `json`?"),
        ("[log]\ncolour = true", "10:1", "unknown key `colour`; known here: filter, format"),
    ] {
        let place = format!("/etc/tokenscope/tokenscope.toml:{place}: ");
        refused(&format!("{LEAST}{more}"), &[&place, says, "\n"]);
    }
    refused("[server]\ndatadir = \"x\"", &[":2:1:", "did you mean `data_dir`?", "2 | datadir = \"x\"", "| ^^^^^^^"]);
}

#[test]
fn a_missing_key_is_named() {
    for (key, section) in [
        ("data_dir = \"data\"\n", ":2:1:"),
        ("issuer = \"https://id.example\"\n", ":2:1:"),
        ("client_ca = \"ca.pem\"\n", ":5:1:"),
    ] {
        let name = key.split(' ').next().expect("a key");
        refused(&LEAST.replace(key, ""), &[section, &format!("missing field `{name}`")]);
    }
    refused("", &["missing field `server`"]);
    let error = Config::load(Path::new("/nonexistent/tokenscope.toml")).expect_err("no file").to_string();
    assert!(error.contains("cannot read the configuration /nonexistent/tokenscope.toml"), "{error}");
}

#[test]
fn a_bad_value_is_refused_where_it_stands() {
    let server = |line: &str| LEAST.replace("[tls]", &format!("{line}\n[tls]"));
    for (text, parts) in [
        (server("quic_address = \"localhost\""), ["5:16", "`localhost` is not an IP address and a port"]),
        (server("admin_address = \"1.2.3.4:70000\""), ["5:17", "is not an IP address and a port"]),
        (server("drain_deadline = \"30\""), ["5:18", "`30` is not a duration"]),
        (server("drain_deadline = 30"), ["5:18", "expected a string"]),
        (server("revocation_wait = \"soon\""), ["5:19", "`soon` is not applied, durable or fenced"]),
        (server("drain_deadline = \"2h\""), ["5:1", "server.drain_deadline: drain_wait is at most 5m"]),
        (server("token_prefix = \"Tks\""), ["5:16", "`Tks` is not a token prefix"]),
        (server("default_audience = [\"a b\"]"), ["5:20", "the audience has the byte 0x20 at offset 1"]),
        (server("base_url = \"http://x\""), ["5:12", "must be an https:// URL"]),
        (LEAST.replace("https://id.example", "https://id.example?x"), ["4:10", "without query and fragment"]),
        (LEAST.replace("https://id.example", "https://"), ["4:10", "must be an https:// URL"]),
        (LEAST.replace("\"data\"", "\"\""), ["3:12", "a path cannot be empty"]),
        (LEAST.replace("\"data\"", "data"), ["3:12", "string values must be quoted"]),
        (format!("{LEAST}[limits]\nquic_send_window_bytes = \"1MB\""), ["10:26", "`1MB` is not a size"]),
        (
            format!("{LEAST}[limits]\nquic_send_window_bytes = \"1GiB\""),
            ["10:26", "limits.quic_send_window_bytes must be between \"64KiB\" and \"64MiB\""],
        ),
        (format!("{LEAST}[limits]\nquic_streams = 0"), ["10:16", "limits.quic_streams must be between 1 and 65536"]),
        (
            format!("{LEAST}[limits]\nquic_receive_window_bytes = \"64KiB\"\nquic_stream_window_bytes = \"1MiB\""),
            ["10:1", "at least limits.quic_stream"],
        ),
        (format!("{LEAST}[snapshot]\nkeep = 1"), ["10:1", "snapshot.keep: must be at least 2"]),
        (format!("{LEAST}[snapshot]\ninterval = \"0s\""), ["10:1", "must be at least 1s"]),
    ] {
        refused(&text, &parts);
    }
}

#[test]
fn two_listeners_on_one_socket_are_refused() {
    for (https, admin, conflict) in [
        ("127.0.0.1:7662", "127.0.0.1:7662", true),
        ("0.0.0.0:7662", "127.0.0.1:7662", true),
        ("127.0.0.1:7662", "[::]:7662", true),
        ("[::1]:7662", "[::]:7662", true),
        ("[::1]:7662", "0.0.0.0:7662", false),
        ("127.0.0.1:7662", "127.0.0.2:7662", false),
        ("127.0.0.1:7662", "127.0.0.1:7663", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
    ] {
        let lines = format!("https_address = \"{https}\"\nadmin_address = \"{admin}\"\n[tls]");
        let text = LEAST.replace("[tls]", &lines);
        match conflict {
            true => refused(&text, &[":6:1: server.admin_address", "already the address of server.https_address"]),
            false => assert!(parse(&text).is_ok(), "{https} and {admin}"),
        }
    }
    let same = LEAST.replace("[tls]", "quic_address = \"127.0.0.1:1\"\nhttps_address = \"127.0.0.1:1\"\n[tls]");
    parse(&same).expect("UDP and TCP have ports of their own");
}

#[test]
fn callers_that_cannot_be_meant_are_refused() {
    let twice = |line: &str| format!("[[caller]]\nname = \"a\"\n{line}\n[[caller]]\nname = \"b\"\n{line}");
    let secret = format!("secret_sha256 = \"{HASH}\"");
    for (more, parts) in [
        (format!("[[caller]]\n{secret}"), ["9:1", "missing field `name`"]),
        (
            "[[caller]]\nname = \"a\"\nissue = true".into(),
            [":10:8: caller.name", "a has no credentials; give certificate_name"],
        ),
        (format!("[[caller]]\nname = \"a b\"\n{secret}"), ["10:8", "the caller has the byte 0x20"]),
        (
            format!("{}\n[[caller]]\nname = \"a\"\n{secret}", twice(&secret)),
            [":16:8: caller.name", "two callers with the name a"],
        ),
        (twice("certificate_name = \"x.example\""), ["13:8", "b and a have the same certificate_name"]),
        (twice(&format!("certificate_sha256 = \"{HASH}\"")), ["13:8", "b and a have the same certificate_sha256"]),
        (twice(&format!("bearer_sha256 = \"{HASH}\"")), ["13:8", "b and a have the same bearer_sha256"]),
        ("[[caller]]\nname = \"a\"\ncertificate_name = \"not a name\"".into(), ["11:20", "is not a DNS name"]),
        (format!("[[caller]]\nname = \"a\"\n{secret}\nask = true"), ["12:7", "expected struct Ask"]),
        (
            format!("[[caller]]\nname = \"a\"\n{secret}\nask = {{ audiences = \"all\" }}"),
            ["12:7", "missing field `workspaces`"],
        ),
        (format!("[[caller]]\nname = \"a\"\n{secret}\nadminister = []"), ["12:14", "an empty list gives nothing"]),
        (
            format!("[[caller]]\nname = \"a\"\n{secret}\nadminister = \"1579\""),
            ["12:14", "`1579` must be \"all\" or a list of workspaces"],
        ),
        (
            format!("[[caller]]\nname = \"a\"\n{secret}\nadminister = [\"1/2\"]"),
            ["12:14", "the workspace has the byte 0x2f"],
        ),
        (
            format!("[[caller]]\nname = \"a\"\n{secret}\nrevoke = \"all\""),
            ["12:10", "`all` must be \"anything\" or { own_tokens_of"],
        ),
        (
            format!("[[caller]]\nname = \"a\"\n{secret}\nrevoke = true"),
            ["12:10", "expected \"anything\" or { own_tokens_of"],
        ),
    ] {
        refused(&format!("{LEAST}{more}"), &parts);
    }
    with(&twice(&secret)).expect("two callers may have the same secret: the name tells them apart");
}

#[test]
fn a_secret_written_where_its_hash_belongs_is_not_repeated() {
    for key in ["secret_sha256", "bearer_sha256"] {
        let text = format!("{LEAST}[[caller]]\nname = \"a\"\n{key} = \"hunter2\"");
        let message = parse(&text).expect_err("not a hash").to_string();
        assert!(message.contains(":11:") && message.contains("64 lower-case hex digits"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn rights_and_credentials_become_callers() {
    let config = with(&format!(
        r#"
[[caller]]
name = "api"
certificate_name = "api.example"
ask = {{ audiences = ["https://api.example", "b"], workspaces = "all" }}
[[caller]]
name = "issuer"
secret_sha256 = "{HASH}"
issue = true
revoke = "anything"
define = true
[[caller]]
name = "planner"
bearer_sha256 = "{HASH}"
revoke = {{ own_tokens_of = "planner" }}
[[caller]]
name = "boss"
certificate_sha256 = "{HASH}"
administer = ["1579"]
operate = true
"#
    ))
    .expect("accepted");
    let callers = config.callers();
    let rights = |name: &str| callers.by_name(name).expect("known").rights.clone();
    let of = |names: &[&str]| Only::These(names.iter().map(|name| (*name).to_owned()).collect());
    let none = Rights::default();
    let ask = Some(AskRight { audiences: of(&["https://api.example", "b"]), workspaces: Only::All });
    assert_eq!(rights("api"), Rights { ask, ..none.clone() });
    let revoke = Some(RevokeRight::Anything);
    assert_eq!(rights("issuer"), Rights { issue: true, revoke, define: true, ..none.clone() });
    let own = RevokeRight::OwnTokensOf(crate::domain::ClientId::parse("planner").expect("client"));
    assert_eq!(rights("planner"), Rights { revoke: Some(own), ..none.clone() });
    assert_eq!(rights("boss"), Rights { administer: Some(of(&["1579"])), operate: true, ..none });
    assert_eq!(callers.by_secret("issuer", b"test").map(|caller| caller.id.clone()), CallerId::parse("issuer").ok());
    assert!(callers.by_secret("issuer", b"tesT").is_none());
    assert_eq!(callers.by_bearer(b"test").map(|caller| caller.id.clone()), CallerId::parse("planner").ok());
}

#[test]
fn the_sample_is_accepted_and_says_the_defaults() {
    let sample = Config::print_default();
    let as_it_is = parse(&sample).expect("the sample is accepted");
    assert_eq!(as_it_is.limits, Limits::default());

    // Every commented key, made a key, is accepted and is the default it claims to be.
    let uncommented: String = sample
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key)
                if key.starts_with("[[") || key.split_once(" = ").is_some_and(|(left, _)| !left.contains(' ')) =>
            {
                format!("{key}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let all = parse(&uncommented).unwrap_or_else(|e| panic!("{e}\n{uncommented}"));
    assert_eq!(all.limits, Limits::default());
    assert_eq!((&all.log, &all.snapshot), (&as_it_is.log, &as_it_is.snapshot));
    assert_eq!(all.callers.len(), 5);
    let server = &as_it_is.server;
    assert_eq!(
        all.server,
        Server {
            base_url: all.server.base_url.clone(),
            default_audience: all.server.default_audience.clone(),
            ..server.clone()
        }
    );
    for key in ["base_url", "default_audience", "revocation_wait", "drain_wait"] {
        assert!(uncommented.contains(&format!("\n{key} = ")), "{key} is not in the sample");
    }
}

#[test]
fn what_is_in_force_is_printed_without_secrets_and_can_be_read_back() {
    let config = with(&format!(
        "[limits]\nhttps_form_bytes = \"8KiB\"\n[[caller]]\nname = \"a\"\nsecret_sha256 = \"{HASH}\"\n\
         administer = \"all\"\n[[caller]]\nname = \"b\"\ncertificate_name = \"b.example\"\n\
         ask = {{ audiences = [\"x\"], workspaces = \"all\" }}\nrevoke = {{ own_tokens_of = \"b\" }}\n"
    ))
    .expect("accepted");
    let printed = config.print_effective();
    assert!(!printed.contains(HASH) && printed.contains("secret_sha256 = \"hidden\""), "{printed}");
    let read =
        parse(&printed.replace("\"hidden\"", &format!("\"{HASH}\""))).unwrap_or_else(|e| panic!("{e}\n{printed}"));
    assert_eq!(read.limits, config.limits);
    assert_eq!(read.callers, config.callers);
    assert_eq!(read.tls, config.tls);
    assert_eq!(read.print_effective(), printed);
}

#[test]
fn the_page_of_limits_is_the_table() {
    let page = limits::page();
    if std::env::var_os("TOKENSCOPE_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/LIMITS.md"), &page).expect("written");
        return;
    }
    let written = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/LIMITS.md"));
    assert!(written.unwrap_or_default() == page, "the table has changed: run this test once with TOKENSCOPE_BLESS=1");
}

#[test]
fn every_limit_has_a_sound_row_and_can_be_set() {
    for (i, row) in limits::ROWS.iter().enumerate() {
        let limits::Row { key, unit, default, least, most, reason } = row;
        assert!(limits::ROWS[..i].iter().all(|other| other.key != *key), "{key} stands twice");
        assert!(least <= default && default <= most, "{key}");
        assert!(reason.ends_with('.') && reason.len() > 20, "{key} has no reason");
        assert_eq!(Limits::default().value(key), Some(*default), "{key}");
        // Limits that depend on each other are widened together.
        let wide = "quic_stream_window_bytes = \"16MiB\"\nquic_receive_window_bytes = \"16MiB\"\n";
        for value in [*least, *default, *most] {
            let others = if unit == &limits::Unit::Bytes && key.starts_with("quic_") { "" } else { wide };
            let text = format!("[limits]\n{others}{key} = {}", unit.write(value));
            match with(&text) {
                Ok(config) => assert_eq!(config.limits.value(key), Some(value), "{key}"),
                Err(e) => assert!(e.to_string().contains("limits."), "{key}: {e}"),
            }
        }
        for outside in [least.checked_sub(1), most.checked_add(1)].into_iter().flatten() {
            let message = with(&format!("[limits]\n{key} = {}", unit.write(outside))).expect_err(key).to_string();
            assert!(message.contains("must be between"), "{key}: {message}");
        }
    }
    assert_eq!(Limits::default().value("none"), None);
}

#[test]
fn words_are_read_and_written() {
    use words::*;
    for (text, ms) in
        [("0s", 0), ("250ms", 250), ("15s", 15_000), ("5m", 300_000), ("1h", 3_600_000), ("7d", 604_800_000)]
    {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        assert_eq!(duration_words(Duration::from_millis(ms)), text);
    }
    for (text, bytes) in [("0B", 0), ("1B", 1), ("64KiB", 65_536), ("8MiB", 8 << 20), ("1GiB", 1 << 30)] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
        assert_eq!(size_words(bytes), text);
    }
    assert_eq!((duration_words(Duration::from_millis(90_000)), size_words(1_536)), ("90s".into(), "1536B".into()));
    for text in ["", "s", "15", "-1s", "1.5s", "15 s", " 15s", "1h30m", "15S", "1us", "1w", "٣s", "+1s"] {
        assert!(matches!(parse_duration(text), Err(WordsError::Shape { .. })), "{text}");
    }
    for text in ["", "64", "64kb", "64KB", "1.5MiB", "64 KiB", "KiB"] {
        assert!(matches!(parse_size(text), Err(WordsError::Shape { .. })), "{text}");
    }
    for text in ["99999999999999999999s", "18446744073709551615d"] {
        assert!(matches!(parse_duration(text), Err(WordsError::TooLarge { .. })), "{text}");
    }
}

/// A directory with the files of [`LEAST`], and its configuration.
fn on_disk() -> (tempfile::TempDir, Config) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::open_or_create(dir.path(), "test", NOW).expect("authority");
    authority.server(LOCAL_NAMES, NOW).expect("signed").write(dir.path(), "server").expect("written");
    let path = dir.path().join("tokenscope.toml");
    std::fs::write(&path, LEAST).expect("written");
    let config = Config::load(&path).expect("accepted");
    (dir, config)
}

#[test]
fn check_reads_the_certificates_and_changes_nothing() {
    let (dir, config) = on_disk();
    let checked = config.check(NOW).expect("sound");
    assert_eq!((checked.material.chain.len(), checked.material.client_ca.len()), (1, 1));
    assert_eq!(checked.material.not_after, Some(NOW.plus(crate::certs::CERTIFICATE_SECONDS)));
    assert_eq!(checked.warnings, ["there are no callers: nobody can ask or change anything"]);
    assert!(!format!("{checked:?}").contains("PRIVATE"));
    assert!(!dir.path().join("data").exists());
    let mut noisy = config.clone();
    noisy.log.filter = "tokenscope=loud".into();
    let message = noisy.check(NOW).expect_err("no filter").to_string();
    assert!(message.contains("log.filter: `tokenscope=loud` is no filter"), "{message}");
    let late = config.check(NOW.plus(crate::certs::CERTIFICATE_SECONDS)).expect("a warning, no error");
    assert!(late.warnings.iter().any(|warning| warning.contains("has expired")), "{:?}", late.warnings);
}

#[test]
fn check_refuses_files_that_cannot_be_used() {
    type Damage = fn(&Path);
    let cases: [(Damage, [&str; 2]); 8] = [
        (|dir| std::fs::remove_file(dir.join("server.pem")).expect("removed"), ["tls.certificate", "cannot be read"]),
        (
            |dir| std::fs::write(dir.join("server.pem"), "x").expect("written"),
            ["tls.certificate", "has no certificate"],
        ),
        (|dir| std::fs::write(dir.join("server.key"), "").expect("written"), ["tls.key", "no private key"]),
        (
            |dir| {
                let other = Authority::new("x", NOW).expect("authority").server(&["localhost"], NOW).expect("signed");
                std::fs::write(dir.join("server.key"), other.key_pem.as_bytes()).expect("written");
            },
            ["tls.key", "is not the key of"],
        ),
        (|dir| std::fs::write(dir.join("ca.pem"), "").expect("written"), ["tls.client_ca", "has no certificate"]),
        (
            |dir| {
                std::fs::write(dir.join("ca.pem"), vec![b'x'; 5 << 20]).expect("written");
            },
            ["tls.client_ca", "no PEM file"],
        ),
        (|dir| std::fs::write(dir.join("data"), "").expect("written"), ["server.data_dir", "is not a directory"]),
        (
            |dir| {
                std::fs::create_dir(dir.join("data")).expect("made");
                std::fs::write(dir.join("data/secrets"), "x").expect("written");
            },
            ["keys.secrets", "secrets"],
        ),
    ];
    for (damage, parts) in cases {
        let (dir, config) = on_disk();
        damage(dir.path());
        let message = config.check(NOW).expect_err(parts[0]).to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
        assert!(!message.contains("PRIVATE KEY"), "{message}");
    }
}

#[test]
fn a_change_of_files_changes_the_fingerprint_and_a_change_of_addresses_needs_a_restart() {
    let (dir, config) = on_disk();
    let before = config.check(NOW).expect("sound").material.fingerprint;
    assert_eq!(config.check(NOW).expect("sound").material.fingerprint, before);
    let authority = Authority::open_or_create(dir.path(), "test", NOW).expect("authority");
    authority.server(LOCAL_NAMES, NOW).expect("signed").write(dir.path(), "server").expect("written");
    assert_ne!(config.check(NOW).expect("sound").material.fingerprint, before);

    assert!(config.needs_restart(&config).is_empty());
    let mut new = config.clone();
    new.server.quic_address.set_port(1);
    new.limits.batch_changes = 7;
    assert_eq!(config.needs_restart(&new), ["server.quic_address", "limits"]);
}
