//! The page of a report in a browser: every chart is visible on a phone and on a desktop, in light
//! and dark; nothing is requested, nothing is complained about, and text stays text.
//!
//! Needs Chromium; without it the tests skip loudly, and `REQUIRE_BROWSER=1` makes that a failure.

use std::path::{Path, PathBuf};
use std::process::Command;

use loadgen::analyse::overview::against_the_first;
use loadgen::model::result::RunResult;
use loadgen::render::html::{self, Named};
use serde_json::Value;

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
const PHONE_AND_DESKTOP: [u64; 2] = [390, 1180];

fn golden(name: &str) -> RunResult {
    RunResult::load(&folder().join("golden").join(name)).expect(name)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places =
        std::env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name)));
    let found = places.find(|place| place.is_file());
    if found.is_none() {
        assert!(std::env::var_os("REQUIRE_BROWSER").is_none(), "no Chromium in PATH");
        eprintln!("SKIPPED: no Chromium in PATH; REQUIRE_BROWSER=1 makes this a failure");
    }
    found
}

/// What a browser shows of a page.
struct Look {
    /// For each width.
    pages: Vec<Value>,
    /// What the browser wrote, errors of the page among it.
    log: String,
    /// Addresses that it asked for.
    requested: Vec<String>,
}

fn look_at(browser: &Path, page: &str, scheme: u8) -> Look {
    let scratch = tempfile::tempdir().expect("a folder");
    let file = scratch.path().join("report.html");
    std::fs::write(&file, page).expect("the page");
    let netlog = scratch.path().join("net.json");
    let flags = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
                 --disable-background-networking --disable-component-update --disable-sync \
                 --disable-default-apps --disable-extensions --no-first-run \
                 --allow-file-access-from-files --enable-logging=stderr \
                 --virtual-time-budget=10000 --dump-dom";
    let output = Command::new(browser)
        .args(flags.split_whitespace())
        .arg(format!("--user-data-dir={}", scratch.path().join("profile").display()))
        .arg(format!("--log-net-log={}", netlog.display()))
        .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!(
            "file://{}#file://{}",
            folder().join("browser/probe.html").display(),
            file.display()
        ))
        .output()
        .expect("the browser starts");
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let seen = dom.split("<pre id=\"seen\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    let seen = seen.unwrap_or_else(|| panic!("no page: {dom}\n{log}")).replace("&lt;", "<");
    let seen = seen.replace("&gt;", ">").replace("&amp;", "&");
    let pages = serde_json::from_str(&seen).unwrap_or_else(|error| panic!("{error}: {seen} {log}"));
    let requested = std::fs::read_to_string(&netlog).expect("the log of requests");
    Look { pages, log, requested: addresses(&requested) }
}

/// Addresses in a log of requests, without files and what the browser asks its maker for.
fn addresses(netlog: &str) -> Vec<String> {
    const MAKER: [&str; 2] = [".google.com/", ".googleapis.com/"];
    let urls = netlog.split("\"url\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let remote = urls.filter(|url| url.starts_with("http") || url.starts_with("ws"));
    let foreign = remote.filter(|url| !MAKER.iter().any(|host| url.contains(host)));
    foreign.map(str::to_owned).collect()
}

impl Look {
    fn assert_sound(&self, charts: &[&str]) {
        let complaints: Vec<&str> =
            self.log.lines().filter(|line| line.contains("CONSOLE")).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
        assert!(self.requested.is_empty(), "{:?}", self.requested);
        for (page, width) in self.pages.iter().zip(PHONE_AND_DESKTOP) {
            assert_eq!(page["width"], width);
            assert_eq!(page["scripts"], 0);
            assert_eq!(page["resources"], Value::Array(Vec::new()));
            assert!(page["overflow"].as_i64().unwrap() <= 0, "{width}: {}", page["overflow"]);
            let shown = page["charts"].as_array().unwrap();
            let names: Vec<&str> =
                shown.iter().map(|chart| chart["name"].as_str().unwrap()).collect();
            assert_eq!(names, charts, "at {width}");
            for chart in shown {
                assert!(chart["width"].as_f64().unwrap() > 250.0, "{width}: {chart}");
                assert!(chart["height"].as_f64().unwrap() > 150.0, "{width}: {chart}");
                assert!(chart["right"].as_f64().unwrap() <= width as f64, "{width}: {chart}");
                assert!(chart["shapes"].as_u64().unwrap() > 4, "{width}: {chart}");
                assert_eq!(chart["invalid"], false, "{width}: {chart}");
            }
        }
    }

    fn text(&self) -> &str {
        self.pages[0]["text"].as_str().unwrap()
    }
}

#[test]
fn every_chart_of_a_run_is_visible_at_both_widths_and_in_both_schemes() {
    let Some(browser) = browser() else { return };
    let script = "<script>document.title = 'taken over'</script><img src=http://127.0.0.1:9/x>";
    let mut result = golden("v2-run.json");
    result.labels.insert("scene".into(), script.into());
    result.target.addr = script.into();
    result.argv.push(script.into());
    result.problems.push(script.into());
    let page = html::report(&result);
    let [dark, light] = [0, 1].map(|scheme| look_at(&browser, &page, scheme));
    for look in [&dark, &light] {
        look.assert_sound(&["percentiles", "over-time", "rate", "accept-queue"]);
        assert!(look.text().matches(script).count() >= 4, "it stays text: {}", look.text());
        assert_ne!(look.pages[0]["title"], "taken over");
    }
    assert_ne!(dark.pages[0]["background"], light.pages[0]["background"]);
}

/// What the other tests rely on: a page that asks for something is found out.
#[test]
fn a_request_and_a_complaint_of_a_page_are_noticed() {
    let Some(browser) = browser() else { return };
    let page = "<!DOCTYPE html><body><img src='http://127.0.0.1:9/image.png'>\
                <script>console.error('unhappy')</script>";
    let look = look_at(&browser, page, 1);
    assert!(look.requested.iter().any(|url| url.ends_with("image.png")), "{:?}", look.requested);
    assert!(look.log.contains("CONSOLE") && look.log.contains("unhappy"), "{}", look.log);
    assert_eq!(look.pages[0]["scripts"], 1);
}

#[test]
fn results_of_other_kinds_and_several_at_once_are_sound() {
    let Some(browser) = browser() else { return };
    let results = ["v2-run.json", "v1-diag.json", "v2-hold.json", "v2-torture.json"].map(golden);
    let [run, observed, hold, torture] = &results;
    look_at(&browser, &html::report(hold), 1).assert_sound(&["percentiles"]);
    look_at(&browser, &html::report(torture), 1).assert_sound(&[]);
    let both = [("before", run), ("after", observed)];
    let comparisons = against_the_first(&both);
    assert_eq!(comparisons.len(), 1);
    let both = both.map(|(name, result)| Named { name, result });
    let look = look_at(&browser, &html::overlay(&both, &comparisons), 1);
    assert!(look.text().contains("too few rounds: 1 of the 5"), "{}", look.text());
    assert!(look.text().contains("before") && look.text().contains("after"), "{}", look.text());
    assert!(look.requested.is_empty());
}
