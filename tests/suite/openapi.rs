//! The OpenAPI document `openapi/countersign.json`, compared with the routes, the responses, and the official
//! documents.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use harness::{Http, Reply};
use serde_json::{Map, Value, json};

use crate::fixture::Fixture;
use crate::world::World;

/// The explained differences from the official documents: patterns with a reason and the expected number of
/// matches.
const DIFFERENCES: &str = include_str!("../../openapi/differences.json");

/// The generated page about the differences.
const DIFFERENCES_PAGE: &str = "docs/openapi-differences.md";

/// The official documents of the served APIs.
const OFFICIAL_DOCUMENTS: [&str; 5] = [
    "twilio_verify_v2.json",
    "twilio_notify_v1.json",
    "twilio_monitor_v1.json",
    "twilio_iam_v1.json",
    "twilio_api_v2010.json",
];

/// The member that marks an operation, parameter or property that Twilio does not have.
const EXTENSION: &str = "x-countersign-extension";

/// The member that marks an operation that refuses API keys.
const AUTH_TOKEN_ONLY: &str = "x-countersign-auth-token-only";

fn kept(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn document() -> Value {
    serde_json::from_str(&kept("openapi/countersign.json")).unwrap()
}

/// Returns the object that `value` refers to by `$ref`, or `value` itself if it has no `$ref`.
pub(crate) fn resolved<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value["$ref"].as_str() {
        Some(link) => {
            let target = link.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
            target.unwrap_or_else(|| panic!("{link} leads nowhere"))
        }
        None => value,
    }
}

pub(crate) fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Returns every operation as method, path and operation object.
pub(crate) fn operations(document: &Value) -> impl Iterator<Item = (String, &str, &Value)> {
    members(&document["paths"]).flat_map(|(path, methods)| {
        let methods = members(methods).filter(|(name, _)| ["get", "post", "delete"].contains(name));
        methods.map(move |(method, operation)| (method.to_uppercase(), path, operation))
    })
}

#[tokio::test]
async fn served_openapi_document_contains_the_server_url() {
    let world = World::ephemeral();
    let reply = Http::new(world.server.url()).get("/openapi.json", &[]).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    let mut served = reply.json();
    assert_eq!(served["servers"], json!([{ "url": world.server.url() }]));
    served["servers"] = json!([{ "url": "/" }]);
    assert_eq!(served, document());
    assert_eq!(served["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn openapi_document_describes_exactly_the_served_routes() {
    let world = World::ephemeral();
    let served = world.backend().get("/openapi.json", &[]).await.json();
    let who = |operation: &Value| {
        let schemes: Vec<_> = items(&operation["security"]).flat_map(members).map(|(name, _)| name).collect();
        match *schemes {
            [] => "Anyone",
            ["accountSid_authToken"] if operation[AUTH_TOKEN_ONLY] == true => "AccountOwner",
            ["accountSid_authToken"] => "Backend",
            ["accountSid_authToken", "accessToken"] => "BackendOrEnrollee",
            ["accountSid_authToken", "deviceToken"] => "BackendOrDevice",
            _ => panic!("{schemes:?}"),
        }
    };
    let described: BTreeSet<_> = operations(&served)
        .map(|(method, path, operation)| (path.to_owned(), method, who(operation).to_owned()))
        .collect();
    let routes: BTreeSet<_> = api::ROUTES
        .iter()
        .map(|route| {
            (route.path.to_owned(), route.method.to_owned(), format!("{:?}", route.endpoint.callers))
        })
        .collect();
    assert_eq!(described, routes, "the document on the left, the route table on the right");
}

#[test]
fn openapi_document_is_complete_and_consistent() {
    let document = document();
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        assert!(names.insert(operation["operationId"].as_str()), "{}", operation["operationId"]);
        let parameters: Vec<_> =
            items(&operation["parameters"]).map(|one| resolved(&document, one)).collect();
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
        let in_path: Vec<_> = in_path.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        let placeholders = path.split(['{', '}']).skip(1).step_by(2);
        assert_eq!(in_path, placeholders.collect::<Vec<_>>(), "{method} {path}");
        assert_eq!(operation["requestBody"].is_object(), method == "POST", "{method} {path}");
    }
    let mut links = BTreeSet::new();
    collect_links(&document, &mut links);
    let components = members(&document["components"]).filter(|(kind, _)| *kind != "securitySchemes");
    let components = components.flat_map(|(kind, components)| {
        members(components).map(move |(name, _)| format!("#/components/{kind}/{name}"))
    });
    assert_eq!(
        components.collect::<BTreeSet<_>>(),
        links,
        "defined components on the left, referenced ones on the right"
    );
}

fn collect_links(value: &Value, links: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            links.extend(value["$ref"].as_str().map(str::to_owned));
            members.values().for_each(|value| collect_links(value, links));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_links(value, links)),
        _ => {}
    }
}

#[tokio::test]
async fn responses_match_their_openapi_schemas() {
    let world = World::sqlite();
    let fixture = Fixture::create(&world).await;
    let (backend, document) = (world.backend(), document());
    for (method, path, operation) in operations(&document) {
        // A deleted resource has no body.
        if method == "DELETE" {
            continue;
        }
        let address = fixture.path(path);
        let json = fixture.json(path);
        let form = if method == "POST" && json.is_none() { fixture.form(path) } else { Vec::new() };
        let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let wrong = match method.as_str() {
            "POST" => vec![("FriendlyName", "\u{7f}"), ("Ttl", "x"), ("Metadata", "x")],
            _ => vec![("PageSize", "0"), ("PageSize", "0")],
        };
        let unauthenticated = Http::new(world.server.url());
        let good = match &json {
            Some(body) => backend.post_json(&address, body).await,
            None => send(&backend, &method, &address, &form).await,
        };
        // On a route that takes JSON, a form is refused too.
        let bad = send(&backend, &method, &address, &wrong).await;
        let unauthenticated_reply = send(&unauthenticated, &method, &address, &form).await;
        // Only an outlet gets a token, with a message.
        let is_good = good.status < 300 || path.ends_with("/{Token}");
        assert!(is_good, "{method} {path}: {good:?}");
        for reply in [&good, &bad, &unauthenticated_reply] {
            let response = resolved(&document, &operation["responses"][reply.status.to_string()]);
            let media_type = reply.header("content-type").unwrap();
            let schema = &response["content"][media_type]["schema"];
            assert!(schema.is_object(), "{method} {path}: {} is not described", reply.status);
            for (name, header) in members(&response["headers"]) {
                let header = resolved(&document, header);
                assert!(
                    header["required"] == false || reply.header(name).is_some(),
                    "{method} {path}: no {name}"
                );
            }
            let body = match media_type {
                "application/json" => reply.json(),
                _ => json!(reply.text),
            };
            let place = format!("{method} {path} {}", reply.status);
            assert_fits(&document, schema, &body, &place);
        }
    }
}

async fn send(client: &Http, method: &str, address: &str, form: &[(&str, &str)]) -> Reply {
    match method {
        "POST" => client.post(address, form).await,
        _ => client.get(address, form).await,
    }
}

/// Checks that `value` matches `schema` and has no member that the schema does not define.
#[track_caller]
fn assert_fits(document: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = resolved(document, schema);
    if value.is_null() {
        assert_eq!(schema["nullable"], true, "{place} is null");
        return;
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{place} is {value}");
    }
    match schema["type"].as_str().unwrap_or_default() {
        "object" => {
            assert!(value.is_object(), "{place} is {value}");
            for name in items(&schema["required"]) {
                assert!(value.get(name.as_str().unwrap()).is_some(), "{place} lacks {name}");
            }
            for (name, member) in members(value) {
                let place = format!("{place} {name}");
                match (schema["properties"].get(name), &schema["additionalProperties"]) {
                    (Some(schema), _) => assert_fits(document, schema, member, &place),
                    (None, rest @ Value::Object(_)) => assert_fits(document, rest, member, &place),
                    (None, rest) => {
                        assert!(*rest == true || schema["properties"].is_null(), "{place} is not described")
                    }
                }
            }
        }
        "array" => {
            assert!(value.is_array(), "{place} is {value}");
            items(value).for_each(|item| assert_fits(document, &schema["items"], item, place));
        }
        "string" => assert!(value.is_string(), "{place} is {value}"),
        "integer" => assert!(value.is_u64(), "{place} is {value}"),
        "boolean" => assert!(value.is_boolean(), "{place} is {value}"),
        kind => panic!("{place} has the type {kind:?}"),
    }
}

/// Returns the official documents in the order of [`OFFICIAL_DOCUMENTS`]. Returns `None` and prints a notice if
/// their folder is not configured: they belong to Twilio and are not part of this repository.
fn official_or_skip(test: &str) -> Option<Vec<Value>> {
    let Some(folder) = std::env::var_os("COUNTERSIGN_TEST_SPECS").map(PathBuf::from) else {
        let why = format!("COUNTERSIGN_TEST_SPECS names no folder with {}", OFFICIAL_DOCUMENTS.join(", "));
        // The test runner captures `eprintln!`, and would show the notice only for a failed test.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
        return None;
    };
    let read = |name: &&str| {
        let path = folder.join(name);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    Some(OFFICIAL_DOCUMENTS.iter().map(read).collect())
}

/// Returns the comparable contents of a document: for each operation, a tree whose leaves are texts.
fn facts(document: &Value) -> BTreeMap<String, Value> {
    let operation_facts = |operation: &Value| {
        let mut facts = Map::new();
        for parameter in items(&operation["parameters"]).map(|parameter| resolved(document, parameter)) {
            let [place, name] = ["in", "name"].map(|key| parameter[key].as_str().unwrap());
            let is_required = parameter["required"] == true;
            facts
                .insert(format!("{place} {name}"), schema_facts(document, &parameter["schema"], is_required));
        }
        for (kind, content) in members(&operation["requestBody"]["content"]) {
            let schema = schema_facts(document, &content["schema"], false);
            let place = if kind == "application/x-www-form-urlencoded" { "form" } else { kind };
            for (name, schema) in members(&schema["members"]) {
                facts.insert(format!("{place} {name}"), schema.clone());
            }
        }
        for (status, response) in members(&operation["responses"]) {
            let response = resolved(document, response);
            let headers =
                members(&response["headers"]).map(|(name, _)| (format!("header {name}"), json!("there")));
            let mut answer: Map<_, _> = headers.collect();
            for (kind, content) in members(&response["content"]) {
                answer.insert(kind.to_owned(), schema_facts(document, &content["schema"], true));
            }
            facts.insert(format!("answer {status}"), answer.into());
        }
        let schemes = operation.get("security").unwrap_or(&document["security"]);
        let schemes = items(schemes).flat_map(members).map(|(name, _)| (name.to_owned(), json!("admitted")));
        facts.insert("security".to_owned(), schemes.collect::<Map<_, _>>().into());
        facts.insert("operationId".to_owned(), operation["operationId"].clone());
        Value::Object(facts)
    };
    let facts = operations(document)
        .map(|(method, path, operation)| (format!("{method} {path}"), operation_facts(operation)));
    facts.collect()
}

/// Returns the facts of a schema without its descriptions.
fn schema_facts(document: &Value, schema: &Value, is_required: bool) -> Value {
    let schema = resolved(document, schema);
    let mut facts = Map::new();
    for (keyword, value) in members(schema) {
        let value = match (keyword, value) {
            ("title" | "description" | "example" | "examples" | "required", _) => continue,
            (keyword, _) if keyword.starts_with("x-") => continue,
            ("properties", properties) => {
                let is_required = |name| items(&schema["required"]).any(|required| required == name);
                let properties = members(properties).map(|(name, schema)| {
                    (name.to_owned(), schema_facts(document, schema, is_required(name)))
                });
                facts.insert("members".to_owned(), properties.collect::<Map<_, _>>().into());
                continue;
            }
            ("items", items) => schema_facts(document, items, true),
            ("additionalProperties", Value::Object(_)) => schema_facts(document, value, true),
            // `nullable` already states that null is among the values.
            ("enum", words) => {
                let words: Vec<_> = items(words).filter_map(Value::as_str).collect();
                words.join("|").into()
            }
            (_, Value::String(text)) => text.as_str().into(),
            (_, other) => other.to_string().into(),
        };
        facts.insert(keyword.to_owned(), value);
    }
    facts.insert("required".to_owned(), if is_required { "yes" } else { "no" }.into());
    facts.into()
}

/// Appends the differences between two trees to `lines`, one per line. A missing branch counts as one
/// difference.
fn differences(place: &str, here: Option<&Value>, there: Option<&Value>, lines: &mut Vec<String>) {
    match (here, there) {
        (Some(Value::Object(here)), Some(Value::Object(there))) => {
            for name in here.keys().chain(there.keys()).collect::<BTreeSet<_>>() {
                let (here, there) = (here.get(name), there.get(name));
                let place = match name.as_str() {
                    // Where both sides have these two, they are not part of the name.
                    "members" | "application/json" if here.is_some() && there.is_some() => place.to_owned(),
                    name => format!("{place}, {name}"),
                };
                differences(&place, here, there, lines);
            }
        }
        (here, there) if here == there => {}
        (here, there) => {
            let shown = |side: Option<&Value>| match side {
                None => "absent".to_owned(),
                Some(Value::String(text)) => text.clone(),
                Some(_) => "there".to_owned(),
            };
            lines.push(format!("{place}: {} here, {} at Twilio", shown(here), shown(there)));
        }
    }
}

/// Returns the path with empty braces, because parameter names do not change the wire, and without `.json`, which
/// every path may have.
fn shape(operation: &str) -> String {
    let operation = operation.strip_suffix(".json").unwrap_or(operation);
    let parts = operation.split(['{', '}']).enumerate();
    parts.map(|(index, part)| if index % 2 == 0 { part } else { "{}" }).collect()
}

/// Returns our operation and the official one, if any, for each method and path with parameter names removed.
fn both(official: &[Value]) -> BTreeMap<String, [Option<(String, Value)>; 2]> {
    let mut both: BTreeMap<String, [Option<(String, Value)>; 2]> = BTreeMap::new();
    let ours = facts(&document()).into_iter().map(|fact| (0, fact));
    let theirs = official.iter().flat_map(facts).map(|fact| (1, fact));
    for (side, (operation, facts)) in ours.chain(theirs) {
        let shape = shape(&operation);
        both.entry(shape).or_default()[side] = Some((operation, facts));
    }
    both
}

/// Returns whether the text matches the pattern, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[test]
fn every_difference_from_the_official_openapi_documents_is_explained() {
    let Some(official) =
        official_or_skip("openapi::every_difference_from_the_official_openapi_documents_is_explained")
    else {
        return;
    };
    let mut lines = Vec::new();
    for [here, there] in both(&official).into_values() {
        let operation = here.as_ref().or(there.as_ref()).map(|(name, _)| name.clone()).unwrap();
        let [here, there] = [&here, &there].map(|side| side.as_ref().map(|(_, facts)| facts));
        differences(&operation, here, there, &mut lines);
    }
    let table: Value = serde_json::from_str(DIFFERENCES).unwrap();
    let patterns: Vec<_> = items(&table).flat_map(|group| members(&group["differences"])).collect();
    let mut counts = BTreeMap::new();
    let mut complaints = Vec::new();
    for line in &lines {
        match patterns.iter().find(|(pattern, _)| matches(pattern, line)) {
            Some((pattern, _)) => *counts.entry(*pattern).or_insert(0) += 1,
            None => complaints.push(format!("no reason: {line}")),
        }
    }
    for (pattern, expected) in patterns {
        let found: u64 = counts.get(pattern).copied().unwrap_or_default();
        if expected.as_u64() != Some(found) || found == 0 {
            complaints.push(format!("{found} differences instead of {expected}: {pattern}"));
        }
    }
    assert!(
        complaints.is_empty(),
        "{} of {} differences:\n{}",
        complaints.len(),
        lines.len(),
        complaints.join("\n")
    );
}

#[test]
fn exactly_the_operations_beyond_twilio_are_marked_as_extensions() {
    let Some(official) =
        official_or_skip("openapi::exactly_the_operations_beyond_twilio_are_marked_as_extensions")
    else {
        return;
    };
    let (both, document) = (both(&official), document());
    for (method, path, operation) in operations(&document) {
        let name = format!("{method} {path}");
        let there = both[&shape(&name)][1].as_ref().map(|(_, facts)| facts);
        assert_eq!(operation[EXTENSION] == true, there.is_none(), "{name}");
        let form = &operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
        for (parameter, schema) in members(&resolved(&document, form)["properties"]) {
            let is_theirs = there.is_some_and(|there| there.get(format!("form {parameter}")).is_some());
            assert_eq!(schema[EXTENSION] == true, !is_theirs, "{name}, {parameter}");
        }
    }
}

#[test]
fn openapi_differences_page_is_up_to_date() {
    let table: Value = serde_json::from_str(DIFFERENCES).unwrap();
    let mut total = 0;
    let mut groups = String::new();
    for group in items(&table) {
        let [title, reason] = ["title", "reason"].map(|key| group[key].as_str().unwrap());
        assert!(!title.is_empty() && reason.len() > 20, "{group}");
        let _ =
            write!(groups, "\n## {title}\n\n{reason}\n\n| Differences | Where, and what |\n| ---: | --- |\n");
        for (pattern, count) in members(&group["differences"]) {
            let count = count.as_u64().unwrap();
            total += count;
            let _ = writeln!(groups, "| {count} | `{}` |", pattern.replace('|', "\\|"));
        }
    }
    let page = format!("{PAGE_INTRODUCTION}\nThere are {total}.\n{groups}");
    if std::env::var_os("COUNTERSIGN_TEST_BLESS").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(DIFFERENCES_PAGE), &page)
            .unwrap();
    }
    assert!(
        kept(DIFFERENCES_PAGE) == page,
        "{DIFFERENCES_PAGE} is outdated: run this test with COUNTERSIGN_TEST_BLESS=1"
    );
}

const PAGE_INTRODUCTION: &str = "\
# Differences from the official OpenAPI documents

[`openapi/countersign.json`](../openapi/countersign.json), which a server shows at `/openapi.json`, describes what is served and
nothing else. Twilio publishes documents of its own. This page lists every difference between the two, with its reason: each path,
method, parameter, limit, status, header, and member of an answer. `*` stands for anything. What only one side has is one
difference, whatever lies in it.

The page is made out of [`openapi/differences.json`](../openapi/differences.json). A test compares the documents when
`COUNTERSIGN_TEST_SPECS` names a folder with `twilio_verify_v2.json`, `twilio_notify_v1.json`, `twilio_monitor_v1.json`,
`twilio_iam_v1.json` and `twilio_api_v2010.json`; it fails on a difference without a reason, on a reason without a difference, and
on any other number of them.
";
