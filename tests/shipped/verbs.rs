//! Every verb of the command line once, with `--json`, against a server; exit codes; and what is exported comes back.

use serde_json::Value;

use super::house::{House, Ran, run};

fn sound(ran: &Ran, what: &str) -> Value {
    assert_eq!(ran.code, Some(0), "{what}: {ran:?}");
    ran.json()
}

#[test]
fn every_verb_answers_in_json_and_says_by_its_exit_code_how_it_went() {
    let mut house = House::new();
    house.start();
    let maria = house.token("maria-time").token.clone();
    let jonas = house.token("jonas-time").token.clone();
    let ask = |line: &str, typed: &str| {
        let arguments: Vec<&str> = line.split(' ').chain(["--json"]).collect();
        house.cli(&arguments, typed)
    };
    let good = |line: &str, typed: &str| sound(&ask(line, typed), line);

    assert_eq!(good("introspect", &maria)["active"], true);
    assert_eq!(good("introspect --place 1579", &format!("{maria}\n"))["sub"], "maria");
    assert_eq!(good("check tasks:read 1579", &maria)["allowed"], true);
    let denied = ask("check tasks:write 1579", &maria);
    assert_eq!((denied.code, denied.err.as_str()), (Some(1), ""), "{denied:?}");
    assert_eq!(denied.json()["reason"], "scope_not_granted");
    let inactive = ask("check tasks:read 1579", "nobody-knows-this-one");
    assert_eq!((inactive.code, inactive.json()), (Some(1), serde_json::json!({ "active": false })));
    let told = good("explain", &maria);
    let used = told["token"]["last_used"].as_u64().unwrap();
    assert!(used >= good("introspect", &maria)["iat"].as_u64().unwrap(), "used before it was issued: {told}");
    let handle = told["token"]["handle"].as_str().unwrap().to_owned();
    let grant = told["token"]["grant"].as_str().unwrap().to_owned();
    assert_eq!(good(&format!("explain --handle {handle}"), "")["active"], true);
    for line in [
        "risk client time-tracker".to_owned(),
        "risk client time-tracker --workspace 1579".to_owned(),
        format!("risk grant {grant}"),
        format!("risk token --handle {handle}"),
        "risk preview --subject maria --client calendar --everywhere * --never-expires".to_owned(),
    ] {
        let report = good(&line, "");
        assert!(report["rating"].is_string() && report["reasons"].is_array(), "{line}: {report}");
        assert!(!report["reasons"].to_string().contains("not used"), "all of it is new: {report}");
    }
    for (line, list) in [
        ("list tokens --subject maria", "tokens"),
        ("list grants --client time-tracker", "grants"),
        ("list members maria", "members"),
        ("list clients", "clients"),
        ("list scopes", "scopes"),
        ("client list", "clients"),
        ("scope list", "scopes"),
        ("member list maria", "members"),
    ] {
        assert!(!good(line, "")[list].as_array().unwrap().is_empty(), "{line}");
    }
    assert!(good("status", "")["revision"].is_string());

    // Each change gives its revision, and later ones are larger.
    let made = good("grant make --subject maria --client time-tracker --at 1579=tasks:read --expires-in 1h", "");
    let new = made["grant"].as_str().unwrap().to_owned();
    good(&format!("grant extend {new} --at 1592=tasks:read"), "");
    good(&format!("grant narrow {new} --at 1579=tasks:read"), "");
    assert_eq!(good(&format!("grant show {new}"), "")["grants"][0]["grant"], new.as_str());
    let minted = good(&format!("token mint --grant {new} --expires-in 15m"), "")["token"].as_str().unwrap().to_owned();
    assert_eq!(good("check tasks:read 1579", &minted)["allowed"], true);
    good(&format!("token register --grant {new} --expires-in 15m"), "a-token-made-elsewhere");
    assert_eq!(good("introspect", "a-token-made-elsewhere")["active"], true);
    for line in [
        "member add lee 1592",
        "member remove lee 1592",
        "policy show 1579",
        "policy block 1579 time-tracker",
        "policy unblock 1579 time-tracker",
        "policy mode 1579 approval-required",
        "policy approve 1579 time-tracker",
        "policy unapprove 1579 time-tracker",
        "policy mode 1579 allow-all",
        "policy personal 1579 off",
        "policy personal 1579 on",
        "client register newcomer",
        "client suspend newcomer",
        "client resume newcomer",
        "subject suspend lee",
        "subject resume lee",
        "scope add tests:read",
        "scope alias tests.read tests:read",
        "scope retire tests:read",
    ] {
        let answer = good(line, "");
        assert!(answer["revision"].is_string() || line.starts_with("policy show"), "{line}: {answer}");
    }
    // Wide revocations count first, and want to be meant.
    assert_eq!(ask("revoke client time-tracker", "").code, Some(2));
    assert!(good("revoke client time-tracker --dry-run", "")["tokens"].as_u64().unwrap() >= 3);
    assert_eq!(good("introspect", &maria)["active"], true, "a dry run changes nothing");
    let revision = good("revoke token", &maria)["revision"].as_str().unwrap().to_owned();
    assert_eq!(good(&format!("introspect --at-least {revision}"), &maria), serde_json::json!({ "active": false }));
    good(&format!("revoke grant {new}"), "");
    assert_eq!(good("introspect", &minted), serde_json::json!({ "active": false }));
    good("revoke app jonas time-tracker --yes", "");
    assert_eq!(good("introspect", &jonas), serde_json::json!({ "active": false }));
    good("revoke subject lee --yes", "");
    good("revoke client calendar --workspace 1579 --yes", "");
    good("revoke issued-before 2001-01-01T00:00:00Z --all --yes", "");

    // Of files and of itself, no server needed.
    for line in ["version", "config limits"] {
        sound(&run(&[&line.split(' ').collect::<Vec<_>>()[..], &["--json"]].concat(), "", &[]), line);
    }
    assert!(
        sound(&run(&["check-config", "--config", house.config(), "--json"], "", &[]), "check-config")["sound"] == true
    );
    assert!(run(&["config", "print-default"], "", &[]).out.contains("[server]"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell], "", &[]).out.contains("tokenscope"));
    }
}

#[test]
fn wrong_command_lines_say_what_is_wrong_and_exit_with_2_or_1() {
    let mut house = House::new();
    house.start();
    let dev = house.file.config_file.with_file_name("dev.json");
    let dev = dev.to_str().unwrap();
    let admin = house.file.caller("admin").unwrap();
    let [ca, certificate, key] =
        [&house.file.ca_file, &admin.certificate_file, &admin.key_file].map(|path| path.to_str().unwrap());
    let cases: &[(&[&str], i32, &str)] = &[
        (&[], 2, "Usage"),
        (&["introspct"], 2, "introspect"),
        (&["check", "tasks:read"], 2, "<PLACE>"),
        (&["status"], 2, "--dev FILE"),
        (&["status", "--dev", "/nowhere/dev.json"], 1, "tokenscope dev"),
        (&["status", "--dev", dev, "--as", "ghost"], 2, "admin"),
        (&["status", "--server", "localhost"], 2, "HOST:PORT"),
        (&["status", "--server", "127.0.0.1:1", "--ca", ca, "--cert", certificate, "--key", key], 1, "127.0.0.1:1"),
        (&["introspect", "--dev", dev, "--token-file", "/nowhere/token"], 1, "/nowhere/token"),
        (&["introspect", "--dev", dev], 2, "token"),
        (&["status", "--dev", dev, "--as", "api"], 1, "forbidden"),
        (&["revoke", "subject", "maria", "--dev", dev], 2, "--dry-run"),
        (&["revoke", "issued-before", "0", "--dev", dev], 2, "--all"),
        (&["revoke", "issued-before", "yesterday", "--all", "--dev", dev], 2, "2026-11-23T15:00:00Z"),
        (
            &["grant", "make", "--subject", "maria", "--client", "calendar", "--at", "1579=tasks:read", "--dev", dev],
            2,
            "--expires-in",
        ),
        (
            &["grant", "make", "--subject", "maria", "--client", "calendar", "--expires-in", "1h", "--dev", dev],
            2,
            "--at",
        ),
        (
            &[
                "grant",
                "make",
                "--subject",
                "maria",
                "--client",
                "calendar",
                "--at",
                "1579=tasks:raed",
                "--expires-in",
                "1h",
                "--dev",
                dev,
            ],
            1,
            "tasks:raed",
        ),
        (
            &[
                "grant",
                "make",
                "--subject",
                "maria",
                "--client",
                "nobody",
                "--at",
                "1579=tasks:read",
                "--expires-in",
                "1h",
                "--dev",
                dev,
            ],
            1,
            "nobody",
        ),
        (&["grant", "show", "17", "--dev", dev], 1, "g17"),
        (&["check", "tasks:read", "1/2/3", "--dev", dev], 2, "WORKSPACE/PROJECT"),
        (&["import", "--config", "/nowhere/t.toml", "x"], 78, "/nowhere/t.toml"),
        (&["snapshot", "inspect", "--config", house.config(), "/nowhere.tks"], 1, "/nowhere.tks"),
    ];
    for (arguments, code, words) in cases {
        let typed = if arguments.contains(&"check") { "some-token" } else { "" };
        let ran = run(arguments, typed, &[]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(*code), ""), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(words), "{arguments:?}: {words:?} is not in {}", ran.err);
    }
    house.is_well("wrong command lines");
}

/// Every answer of the sample tokens: active or not, and each check of the story.
fn answers(house: &House) -> Vec<(String, Value, Vec<Value>)> {
    let row = |token: &tokenscope::dev::file::DevToken| {
        let mut told: Value = serde_json::from_slice(&house.introspect(&token.token).body).unwrap();
        if let Some(told) = told.as_object_mut() {
            // Numbers of this server: its revision and its name.
            told.retain(|name, _| !["tokenscope_revision", "iss"].contains(&name.as_str()));
        }
        if let Some(places) = told.get_mut("authorization_details").and_then(Value::as_array_mut) {
            // In whatever order the places came to be known.
            places.iter_mut().for_each(|it| it["locations"].as_array_mut().unwrap().sort_by_key(Value::to_string));
            places.sort_by_key(Value::to_string);
        }
        let checks = token
            .checks
            .iter()
            .map(|check| house.cli(&["check", &check.scope, &check.place, "--json"], &token.token).json());
        (token.name.clone(), told, checks.collect())
    };
    house.file.tokens.iter().map(row).collect()
}

#[test]
fn what_is_exported_and_imported_again_gives_the_same_answers() {
    let mut first = House::new();
    first.start();
    first.revoke(&first.token("jonas-report").token.clone());
    let blocked = first.cli(&["policy", "block", "1592", "mail-importer", "--json"], "");
    assert_eq!(blocked.code, Some(0), "{blocked:?}");
    let before = answers(&first);
    assert_eq!(first.stop().code, Some(0));
    let lines = first.dir.path().join("all.jsonl");
    let lines = lines.to_str().unwrap();
    let exported = run(&["export", "--config", first.config(), "--output", lines], "", &[]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let again = run(&["export", "--config", first.config(), "--output", lines], "", &[]);
    assert_eq!(again.code, Some(1), "it is not written over: {again:?}");
    let verified = run(&["journal", "verify", "--config", first.config(), "--json"], "", &[]);
    assert_eq!(sound(&verified, "journal verify")["verified"], true);
    sound(&run(&["journal", "inspect", "--config", first.config(), "--json"], "", &[]), "journal inspect");
    let made = sound(&run(&["snapshot", "create", "--config", first.config(), "--json"], "", &[]), "snapshot create");
    let file = first.data.join(made["file"].as_str().unwrap());
    for verb in ["inspect", "verify"] {
        let arguments = ["snapshot", verb, "--config", first.config(), file.to_str().unwrap(), "--json"];
        sound(&run(&arguments, "", &[]), verb);
    }

    let mut second = House::empty("");
    second.file.tokens = first.file.tokens.clone();
    // Tokens travel by their handles, which mean something under the same secrets.
    std::fs::create_dir(&second.data).unwrap();
    std::fs::copy(first.data.join("secrets"), second.data.join("secrets")).unwrap();
    let checked = run(&["import", "--check-only", "--config", second.config(), lines, "--json"], "", &[]);
    assert_eq!(sound(&checked, "import --check-only")["sound"], true);
    let imported = run(&["import", "--config", second.config(), lines, "--json"], "", &[]);
    assert!(sound(&imported, "import")["tokens"].as_u64().unwrap() > 0);
    let repeated = sound(&run(&["import", "--config", second.config(), lines, "--json"], "", &[]), "import, again");
    assert_eq!(repeated["tokens"], 0, "{repeated}");
    second.start();
    let after = answers(&second);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
}
