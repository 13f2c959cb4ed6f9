//! The whole tool from outside: real processes, real sockets on loopback, no figures.

use std::path::Path;
use std::process::{Command, Output};

fn loadtest(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.current_dir(directory).args(arguments).output().expect("the program starts")
}

fn succeeded(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

const SHORT: [&str; 7] = ["--duration", "300ms", "--warm-up", "100ms", "--tokens", "2000", "--quiet"];

#[test]
fn the_null_driver_needs_no_server_in_either_loop() {
    let directory = tempfile::tempdir().unwrap();
    for loop_kind in [&["--closed"][..], &["--rate", "5k"], &["--stage", "2k:200ms", "--stage", "4k:200ms"]] {
        let arguments = [&["run", "--driver", "null", "--json", "out.json"], loop_kind, &SHORT].concat();
        succeeded(&loadtest(directory.path(), &arguments));
        let result = json(&directory.path().join("out.json"));
        assert_eq!(result["totals"]["errors"], 0);
        assert!(result["totals"]["answered"].as_u64().unwrap() > 100, "{loop_kind:?}: {result:#}");
    }
}

#[test]
fn results_are_compared_and_pages_written() {
    let directory = tempfile::tempdir().unwrap();
    for (name, rate) in [("a", "2k"), ("b", "4k")] {
        let (file, page) = (format!("{name}.json"), format!("{name}.html"));
        let arguments = ["run", "--driver", "null", "--rate", rate, "--json", &file, "--html", &page, "--hgrm", "h"];
        succeeded(&loadtest(directory.path(), &[&arguments[..], &SHORT].concat()));
        assert!(std::fs::read_to_string(directory.path().join(page)).unwrap().contains("</svg>"));
        assert!(std::fs::read_to_string(directory.path().join("h")).unwrap().contains("#[Mean"));
    }
    let text = succeeded(&loadtest(directory.path(), &["compare", "a.json", "b.json"]));
    assert!(text.contains("answers per second") && text.contains("load: open loop"), "{text}");
}

#[test]
fn an_assertion_that_is_not_met_has_an_exit_code_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["run", "--driver", "null", "--rate", "1k", "--assert", "errors==0", "--assert", "rate>1G"];
    let output = loadtest(directory.path(), &[&arguments[..], &SHORT].concat());
    assert_eq!(output.status.code(), Some(99));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not met: rate>1G") && !said.contains("errors==0:"), "{said}");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, code) in [
        (&["run"][..], 1),
        (&["run", "--rate", "5x"], 2),
        (&["run", "--rate", "1k", "--closed"], 2),
        (&["run", "--driver", "redis", "--rate", "1k", "--address", "10.0.0.1:6379", "--tokens", "10"], 1),
        (&["run", "--driver", "null", "--rate", "1k", "--mix", "revoked=1", "--tokens", "100"], 1),
        (&["run", "--driver", "null", "--closed", "--workers", "8", "--tokens", "100"], 1),
        (&["compare", "none.json", "none.json"], 1),
    ] {
        let output = loadtest(directory.path(), arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(!said.is_empty() && !said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_server_of_its_own_answers_every_driver_rightly_while_tokens_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let mix = "hit=80,unknown=8,expired=4,revoked=8";
    for (driver, more) in [
        ("native", &["--ask", "introspect", "--churn", "200"][..]),
        ("native", &["--ask", "check", "--mix", "hit=70,denied=20,revoked=10", "--popularity", "zipf"]),
        ("native", &["--ask", "check-names", "--batch", "8", "--streams", "2"]),
        ("client", &["--ask", "introspect", "--in-flight", "4"]),
        ("https1", &["--ask", "introspect", "--in-flight", "1"]),
        ("https2", &["--ask", "check", "--in-flight", "4", "--mix", "hit=70,denied=20,revoked=10"]),
    ] {
        let mut arguments = vec!["run", "--driver", driver, "--data-dir", "data", "--rate", "1k", "--json", "out.json"];
        arguments.extend(more);
        if !more.contains(&"--mix") {
            arguments.extend(["--mix", mix]);
        }
        arguments.extend(SHORT);
        succeeded(&loadtest(directory.path(), &arguments));
        let result = json(&directory.path().join("out.json"));
        assert_eq!(result["totals"]["errors"], 0, "{driver}: {result:#}");
        assert!(result["totals"]["answered"].as_u64().unwrap() > 50, "{driver}: {result:#}");
        assert!(result["cpu"]["server_resident"].as_u64().unwrap() > 0);
    }
}

#[test]
fn a_server_with_other_data_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["run", "--data-dir", "data", "--rate", "500"];
    succeeded(&loadtest(directory.path(), &[&arguments[..], &SHORT].concat()));
    // The file says that the data was made from another seed than it was.
    let file = directory.path().join("data/dev.json");
    let mut dev = json(&file);
    dev["samples"]["seed"] = 5.into();
    std::fs::write(&file, dev.to_string()).unwrap();
    let output = loadtest(directory.path(), &[&arguments[..], &SHORT].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("other data"), "{said}");
}

#[test]
fn generated_data_is_the_same_for_the_same_seed() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let arguments = ["generate", "--tokens", "500", "--seed", "7", "--at", "1790000000", "-o", name];
        succeeded(&loadtest(directory.path(), &arguments));
    }
    let [a, b] = ["a", "b"].map(|name| std::fs::read(directory.path().join(name)).unwrap());
    assert!(a == b && a.len() > 50_000);
}

#[test]
fn the_side_by_side_runs_with_whatever_is_installed() {
    let directory = tempfile::tempdir().unwrap();
    let output = loadtest(directory.path(), &["versus", "--short"]);
    let text = succeeded(&output);
    for goal in ["P1 ", "P2 ", "P10 ", "P16 ", "N1 ", "N2 ", "N3 ", "N4 "] {
        assert!(text.contains(goal), "{goal}: {text}");
    }
    let result = json(&directory.path().join("versus.json"));
    let rows = result["rows"].as_array().unwrap();
    assert!(rows.len() >= 20);
    // A row has a figure, or says why it has none.
    assert!(rows.iter().all(|row| row["found"]["Ok"].is_object() || row["found"]["Err"].is_string()));
    assert!(std::fs::read_to_string(directory.path().join("versus.html")).unwrap().contains("</svg>"));
}

#[test]
fn growth_has_every_point_of_every_series() {
    let directory = tempfile::tempdir().unwrap();
    let text = succeeded(&loadtest(directory.path(), &["growth", "--short"]));
    let result = json(&directory.path().join("growth.json"));
    let points = result["points"].as_array().unwrap();
    let of = |axis: &str| points.iter().filter(|point| point["axis"] == axis).count();
    assert_eq!((of("tokens"), of("in_flight"), of("connections")), (4, 2, 2), "{text}");
    assert!(points.iter().all(|it| it["errors"] == 0 && it["rate"][0].as_f64().unwrap() > 0.0), "{result:#}");
    // More than one caller may have by default: the limits were raised.
    assert!(points.iter().any(|it| it["connections"].as_u64().unwrap() > 64));
    assert!(std::fs::read_to_string(directory.path().join("growth.html")).unwrap().contains("</svg>"));
}

#[test]
fn look_ups_print_what_they_found_and_refuse_nonsense() {
    let directory = tempfile::tempdir().unwrap();
    let text = succeeded(&loadtest(directory.path(), &["look-ups", "--tokens", "500", "--rounds", "2"]));
    let result: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(result["nanos"].as_object().unwrap().len(), 7);
    assert!(result["index_bytes"].as_u64().unwrap() > 500 * 28);
    // None cannot be looked up.
    let output = loadtest(directory.path(), &["look-ups", "--tokens", "0", "--rounds", "1"]);
    assert_eq!(output.status.code(), Some(2));
}
