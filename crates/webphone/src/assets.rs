//! The files of the page.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use web::{BodyLimit, Route};

/// What a route of the phone responds with.
#[derive(Clone, Copy, Debug)]
pub enum Endpoint {
    /// A redirect from the address without a slash at its end, where relative links would not work.
    Redirect,
    /// A file.
    File(&'static Asset),
}

/// A file of the page.
#[derive(Debug)]
pub struct Asset {
    pub(crate) content_type: &'static str,
    pub(crate) bytes: &'static [u8],
}

impl Asset {
    /// Returns the entity tag, which changes with the content. It is the same in every process of a binary.
    pub(crate) fn entity_tag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.bytes.hash(&mut hasher);
        format!("\"{:016x}\"", hasher.finish())
    }
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const MANIFEST: &str = "application/manifest+json";
const PNG: &str = "image/png";

/// Defines the files, and the route of each. The page itself has the name `index.html` in `assets/` and the path
/// `/phone/`.
macro_rules! assets {
    ($($name:literal, $path:literal, $content_type:expr;)*) => {
        pub(crate) static ASSETS: &[Asset] = &[$(Asset {
            content_type: $content_type,
            bytes: include_bytes!(concat!("../assets/", $name)),
        }),*];

        /// The names of the files, in the same order.
        #[cfg(test)]
        const NAMES: &[&str] = &[$($name),*];

        pub(crate) static ROUTES: &[Route<Endpoint>] = &{
            let mut paths: &[&str] = &[$(concat!("/phone/", $path)),*];
            let mut routes = [route("/phone", Endpoint::Redirect); 1 + [$($name),*].len()];
            let mut index = 1;
            while let [path, rest @ ..] = paths {
                routes[index] = route(path, Endpoint::File(&ASSETS[index - 1]));
                paths = rest;
                index += 1;
            }
            routes
        };
    };
}

const fn route(path: &'static str, endpoint: Endpoint) -> Route<Endpoint> {
    Route { method: "GET", path, body: BodyLimit::Small, endpoint }
}

assets! {
    "index.html", "", HTML;
    "phone.css", "phone.css", CSS;
    "app.js", "app.js", JAVASCRIPT;
    "fragment.js", "fragment.js", JAVASCRIPT;
    "keys.js", "keys.js", JAVASCRIPT;
    "link.js", "link.js", JAVASCRIPT;
    "messages.js", "messages.js", JAVASCRIPT;
    "phones.js", "phones.js", JAVASCRIPT;
    "registration.js", "registration.js", JAVASCRIPT;
    "store.js", "store.js", JAVASCRIPT;
    "stream.js", "stream.js", JAVASCRIPT;
    "sw.js", "sw.js", JAVASCRIPT;
    "text.js", "text.js", JAVASCRIPT;
    "view.js", "view.js", JAVASCRIPT;
    "wire.js", "wire.js", JAVASCRIPT;
    "manifest.webmanifest", "manifest.webmanifest", MANIFEST;
    "icon-180.png", "icon-180.png", PNG;
    "icon-192.png", "icon-192.png", PNG;
    "icon-512.png", "icon-512.png", PNG;
    "icon-maskable-512.png", "icon-maskable-512.png", PNG;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(asset: &'static Asset) -> &'static str {
        std::str::from_utf8(asset.bytes).unwrap()
    }

    /// Returns the files with their names.
    fn files() -> impl Iterator<Item = (&'static str, &'static Asset)> {
        NAMES.iter().copied().zip(ASSETS)
    }

    fn named(name: &str) -> &'static Asset {
        files().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("no file {name}")).1
    }

    fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
        files().filter(|(_, asset)| asset.content_type == JAVASCRIPT).map(|(name, asset)| (name, text(asset)))
    }

    /// Returns the texts between `start` and `end`.
    fn between<'t>(text: &'t str, start: &'t str, end: char) -> impl Iterator<Item = &'t str> {
        text.split(start).skip(1).filter_map(move |rest| rest.split(end).next())
    }

    #[test]
    fn every_file_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(files, NAMES.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(ROUTES.len(), ASSETS.len() + 1);
    }

    #[test]
    fn service_worker_keeps_every_file_but_itself() {
        let list = text(named("sw.js")).split("const FILES = [").nth(1).unwrap().split(']').next().unwrap();
        let kept: BTreeSet<&str> = between(list, "    '", '\'').collect();
        let address = |name: &&'static str| if *name == "index.html" { "./" } else { *name };
        assert_eq!(kept, NAMES.iter().map(address).filter(|name| *name != "sw.js").collect());
    }

    #[test]
    fn every_import_and_link_names_a_file() {
        for (_, script) in scripts() {
            for import in between(script, "from './", '\'') {
                named(import);
            }
        }
        let page = text(named("index.html"));
        for link in between(page, "href=\"", '"').chain(between(page, "src=\"", '"')) {
            named(link);
        }
        for link in between(text(named("manifest.webmanifest")), "\"src\": \"", '"') {
            named(link);
        }
    }

    #[test]
    fn text_never_becomes_markup_or_code() {
        for (name, script) in scripts() {
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
            {
                assert!(!script.contains(forbidden), "{name}: {forbidden}");
            }
        }
        let page = text(named("index.html"));
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=").count());
        assert!(!page.contains("style=") && !page.contains("<style"));
    }

    #[test]
    fn page_names_its_own_version() {
        let expected = concat!("const SDK_VERSION = 'web-", env!("CARGO_PKG_VERSION"), "';");
        assert!(text(named("wire.js")).contains(expected), "{expected}");
    }

    #[test]
    fn entity_tag_changes_with_the_content() {
        let tags: BTreeSet<String> = ASSETS.iter().map(Asset::entity_tag).collect();
        assert_eq!(tags.len(), ASSETS.len());
        assert_eq!(named("app.js").entity_tag(), named("app.js").entity_tag());
    }
}
