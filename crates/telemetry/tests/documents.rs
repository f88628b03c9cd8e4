//! Compares the documentation, the dashboard and the alert rules with the metrics that exist.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test reports a failure")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use telemetry::metrics::{Metric, TABLE};

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the name of a metric as the documentation spells it: with `_total` for a counter.
fn documented_name(metric: &Metric) -> String {
    let end = if metric.kind == "counter" { "_total" } else { "" };
    format!("{}{end}", metric.name)
}

#[test]
fn metric_names_and_help_texts_follow_the_conventions() {
    let mut names = BTreeSet::new();
    for Metric { name, kind, unit, help, .. } in TABLE {
        assert!(names.insert(name), "{name} is declared twice");
        assert!(name.starts_with("countersign_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert!(unit.is_none_or(|unit| name.ends_with(&format!("_{unit}"))), "{name}");
        for end in ["_total", "_bucket", "_count", "_sum"] {
            assert!(
                !name.ends_with(end),
                "{name}, of kind {kind}, ends with a suffix that only the exporter may add"
            );
        }
        assert!(help.starts_with(char::is_uppercase) && !help.ends_with('.'), "{name}: {help}");
    }
}

#[test]
fn documentation_lists_every_metric_with_its_help_text() {
    let row = |metric: &Metric| {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        format!(
            "| `{}` | {} | {} | {} |",
            documented_name(metric),
            metric.kind,
            labels.join(", "),
            metric.help
        )
    };
    let expected: Vec<_> = TABLE.iter().map(row).collect();
    let text = file("docs/metrics.md");
    let found: Vec<_> = text.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(found, expected, "docs/metrics.md should have\n{}\n", expected.join("\n"));
}

/// Returns the parts of `text` that are enclosed in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn documentation_lists_every_label_value() {
    // Series whose label values can be enumerated exist from the start, so `render` returns them all.
    let (mut exported, text) = (BTreeMap::<_, BTreeSet<_>>::new(), telemetry::metrics::render());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels)) = line.split_once('{') else { continue };
        let metric = TABLE.iter().find(|metric| name.starts_with(metric.name)).unwrap();
        for label in labels.split('}').next().unwrap().split(',') {
            let (label, value) = label.split_once('=').unwrap();
            if label != "le" {
                let values = exported.entry((label.to_owned(), documented_name(metric))).or_default();
                values.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    let document = file("docs/metrics.md");
    let (_, section) = document.split_once("## What the labels say").unwrap();
    let mut documented = BTreeMap::<_, BTreeSet<_>>::new();
    for (label, rest) in section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" of ")) {
        let (of, values) = rest.split_once(" | ").unwrap();
        for metric in quoted(of) {
            let values = quoted(values).map(str::to_owned).collect();
            assert_eq!(
                documented.insert((label.to_owned(), metric.to_owned()), values),
                None,
                "{label} of {metric}"
            );
        }
    }
    assert_eq!(documented, exported);
}

/// A token of a PromQL query.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// The name of a metric or a function, or a keyword.
    Word(String),
    /// The name of a label in braces.
    Match(String),
    Sign(char),
}

/// Splits a PromQL query into tokens. Names in braces become [`Token::Match`]; strings, ranges and numbers are skipped.
/// Panics if a string or a range is unterminated or brackets are unbalanced.
#[track_caller]
fn tokens(query: &str) -> Vec<Token> {
    let (mut tokens, mut rest) = (Vec::new(), query.trim_start());
    let mut in_braces = false;
    while let Some(first) = rest.chars().next() {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '$' | '.');
        let mut length = rest.chars().take_while(|c| is_part(*c)).count();
        match first {
            '"' => {
                length = 2 + rest[1..].find('"').unwrap_or_else(|| panic!("unterminated string: {query}"));
            }
            '[' => length = 1 + rest.find(']').unwrap_or_else(|| panic!("unterminated range: {query}")),
            _ if length > 0 && first.is_ascii_digit() => {}
            _ if length > 0 => {
                let word = rest[..length].to_owned();
                tokens.push(if in_braces { Token::Match(word) } else { Token::Word(word) });
            }
            sign => {
                in_braces = if matches!(sign, '{' | '}') { sign == '{' } else { in_braces };
                length = 1;
                tokens.push(Token::Sign(sign));
            }
        }
        rest = rest[length..].trim_start();
    }
    for (open, close) in [('(', ')'), ('{', '}')] {
        let count = |sign| tokens.iter().filter(|token| **token == Token::Sign(sign)).count();
        assert_eq!(count(open), count(close), "{query}");
    }
    tokens
}

/// The functions, operators and keywords that queries may use.
const FUNCTIONS: [&str; 12] = [
    "sum",
    "max",
    "min",
    "rate",
    "increase",
    "time",
    "histogram_quantile",
    "absent",
    "or",
    "unless",
    "by",
    "label_values",
];

/// The labels that Prometheus adds when it scrapes a server.
const SCRAPE_LABELS: [&str; 2] = ["job", "instance"];

/// Checks that a query uses only existing metrics and their labels, and panics otherwise. Returns the names of the
/// metrics.
#[track_caller]
fn queried_metrics(query: &str) -> BTreeSet<&'static str> {
    let mut samples = BTreeMap::new();
    for metric in TABLE {
        let ends: &[&str] = match metric.kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            _ => &[""],
        };
        for end in ends {
            samples.insert(format!("{}{end}", metric.name), (metric, *end == "_bucket"));
        }
    }
    let (mut metrics, mut labels, mut matched) = (BTreeSet::new(), BTreeSet::from(SCRAPE_LABELS), Vec::new());
    let tokens = tokens(query);
    let mut tokens = tokens.iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            Token::Match(label) => matched.push(label.as_str()),
            Token::Word(word) if matches!(word.as_str(), "by" | "on") => {
                assert_eq!(tokens.next(), Some(&Token::Sign('(')), "{query}");
                while let Some(Token::Word(label)) = tokens.next_if(|token| **token != Token::Sign(')')) {
                    matched.push(label);
                    tokens.next_if(|token| **token == Token::Sign(','));
                }
            }
            Token::Word(word) if tokens.peek() == Some(&&Token::Sign('(')) => {
                assert!(FUNCTIONS.contains(&word.as_str()), "unknown function {word}: {query}");
            }
            // A keyword of a query such as `sum by (…) (…)`.
            Token::Word(word) if FUNCTIONS.contains(&word.as_str()) => {}
            Token::Word(word) if word == "up" => {}
            Token::Word(word) => {
                let (metric, is_bucket) =
                    samples.get(word).unwrap_or_else(|| panic!("unknown metric {word}: {query}"));
                metrics.insert(metric.name);
                labels.extend(metric.labels);
                labels.extend(is_bucket.then_some("le"));
            }
            Token::Sign(_) => {}
        }
    }
    for label in matched {
        assert!(labels.contains(label), "unknown label {label}: {query}");
    }
    metrics
}

#[test]
fn query_with_an_unknown_metric_or_label_or_bad_syntax_is_rejected() {
    let metrics = queried_metrics(
        r#"sum by (le) (rate(countersign_push_duration_seconds_bucket{provider="fcm"}[5m])) > 1"#,
    );
    assert_eq!(metrics, BTreeSet::from(["countersign_push_duration_seconds"]));
    for wrong in [
        "countersign_push_duration_seconds",
        "countersign_push_duration_seconds_total",
        "countersign_challenges_created",
        "countersign_ready_total",
        "countersign_nothing",
        "nothing(countersign_ready)",
        r#"countersign_ready{provider="fcm"}"#,
        "sum by (route) (countersign_ready)",
        "sum(countersign_ready",
    ] {
        assert!(std::panic::catch_unwind(|| queried_metrics(wrong)).is_err(), "{wrong}");
    }
}

/// Appends all values under `key`, at any depth of `value`, to `found`.
fn find_all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get(key));
            members.values().for_each(|member| find_all(member, key, found));
        }
        Value::Array(items) => items.iter().for_each(|item| find_all(item, key, found)),
        _ => {}
    }
}

#[test]
fn dashboard_shows_every_metric_without_overlapping_panels() {
    let dashboard: Value = serde_json::from_str(&file("deploy/grafana-dashboard.json")).unwrap();
    let mut queries = Vec::new();
    find_all(&dashboard["panels"], "expr", &mut queries);
    assert!(queries.len() > 30);
    let shown: BTreeSet<_> =
        queries.iter().flat_map(|query| queried_metrics(query.as_str().unwrap())).collect();
    assert_eq!(shown, TABLE.iter().map(|metric| metric.name).collect());

    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: BTreeSet<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["datasource", "instance", "job"]));
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        // The definition has the form `label_values(metric, label)`.
        let query = variable["definition"].as_str().unwrap().rsplit_once(", ").unwrap().0;
        assert_eq!(queried_metrics(&format!("{query})")).len(), 1);
    }
    let mut sources = Vec::new();
    find_all(&dashboard, "datasource", &mut sources);
    assert!(sources.iter().all(|source| source["uid"] == "${datasource}"), "{sources:?}");

    // Panels must not overlap.
    let mut places = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(places.insert((x, y)), "{panel}");
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(rename = "for")]
    lasting: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[test]
fn alerts_use_existing_metrics_and_link_to_existing_runbook_sections() {
    let rules: Rules = serde_saphyr::from_str(&file("deploy/alerts.yaml")).unwrap();
    let [Group { name, rules }] = &rules.groups[..] else { panic!("{rules:?}") };
    assert_eq!(name, "countersign");
    let runbook = file("docs/operations.md");
    // GitHub derives anchors from headings in this way.
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    let headings = runbook.lines().filter(|line| line.starts_with('#'));
    let anchors: BTreeSet<_> = headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect();
    let mut alerts = BTreeSet::new();
    for Rule { alert, expr, lasting, labels, annotations } in rules {
        assert!(alerts.insert(alert) && alert.starts_with("Countersign"), "{alert}");
        assert!(!queried_metrics(expr).is_empty() || expr.contains("up{"), "{alert}");
        let is_duration =
            |text: &String| text.ends_with('m') && text.trim_end_matches('m').parse::<u8>().is_ok();
        assert!(lasting.as_ref().is_none_or(is_duration), "{alert}: {lasting:?}");
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["severity"], "{alert}");
        assert!(matches!(labels["severity"].as_str(), "page" | "ticket"), "{alert}");
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["description", "runbook", "summary"], "{alert}");
        assert!(
            annotations["description"].len() > 40 && annotations["description"].ends_with('.'),
            "{alert}"
        );
        let (page, section) = annotations["runbook"].split_once('#').unwrap();
        assert_eq!(page, "docs/operations.md", "{alert}");
        assert!(anchors.contains(section), "{alert}: no section {section}");
    }
    assert!(alerts.len() > 15, "{alerts:?}");
}
