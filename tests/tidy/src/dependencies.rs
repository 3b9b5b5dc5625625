//! Which member may depend on which.
//!
//! The table is the one in ARCHITECTURE.md. A member that it does not name is a fault, so that a new member is thought
//! about once, here.

use crate::{
    manifest::{self, Entry},
    tree::File,
};

/// What a member may depend on.
#[derive(Debug, Clone, Copy)]
enum May {
    /// These members only.
    Members(&'static [&'static str]),
    /// Every crate; no service.
    Crates,
    /// Everything.
    Everything,
}

/// The table: folder of the member, what it may depend on.
const TABLE: &[(&str, May)] = &[
    ("crates/model", May::Members(&[])),
    ("crates/kernel", May::Members(&[])),
    ("crates/channels", May::Members(&[])),
    ("crates/devices", May::Members(&[])),
    ("crates/contracts", May::Members(&["runnel-model", "runnel-channels"])),
    ("crates/failpoints", May::Members(&[])),
    ("crates/storage", May::Members(&["runnel-model", "runnel-contracts", "runnel-failpoints"])),
    (
        "crates/journeys",
        May::Members(&[
            "runnel-model",
            "runnel-kernel",
            "runnel-channels",
            "runnel-devices",
            "runnel-contracts",
            "runnel-failpoints",
            "runnel-storage",
        ]),
    ),
    (
        "crates/definitions",
        May::Members(&[
            "runnel-model",
            "runnel-kernel",
            "runnel-contracts",
            "runnel-storage",
            "runnel-journeys",
            "runnel-chassis",
        ]),
    ),
    ("crates/chassis", May::Members(&["runnel-model", "runnel-contracts"])),
    ("crates/client", May::Members(&["runnel-model", "runnel-contracts"])),
    ("crates/simulate", May::Members(&[])),
    ("services/gateway", May::Crates),
    ("services/ingest", May::Crates),
    ("services/funnel", May::Crates),
    ("services/segmentation", May::Crates),
    ("services/runnel", May::Everything),
];

/// Foreign crates that only some members may name, and why.
const FOREIGN: &[(&str, &[&str], &str)] = &[
    ("sqlx", &["crates/storage"], "one crate talks to databases"),
    ("redis", &["crates/storage"], "one crate talks to hot stores"),
    ("prost-build", &["crates/contracts"], "the contract is generated in one place"),
    ("tonic-prost-build", &["crates/contracts"], "the contract is generated in one place"),
    ("protox", &["crates/contracts"], "the contract is generated in one place"),
];

/// Members that do no input or output, and what they may not name.
const PURE: &[&str] =
    &["crates/model", "crates/kernel", "crates/channels", "crates/devices", "crates/simulate"];
const IMPURE: &[&str] =
    &["tokio", "tonic", "sqlx", "redis", "hyper", "http", "axum", "tower", "prost", "mio"];

/// Code that opens files or sockets, which a member without input and output does not contain.
const IMPURE_CODE: &[&str] = &["std::fs", "std::net", "std::process", "std::env", "tokio::"];

/// Faults against the table in the manifests of the tree.
pub fn faults(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    let manifest = |path: &str| {
        files
            .iter()
            .find(|file| file.path == path)
            .and_then(|file| file.text.as_deref())
            .map(manifest::entries)
    };
    let Some(root) = manifest("Cargo.toml") else { return vec!["Cargo.toml: not found".into()] };
    let folders: Vec<String> = root
        .iter()
        .filter(|entry| entry.section == "workspace" && entry.key == "members")
        .flat_map(|entry| manifest::strings(&entry.value))
        .collect();
    if folders.is_empty() {
        faults.push("Cargo.toml: the workspace names no members".into());
    }
    let members: Vec<Member> = folders
        .iter()
        .filter_map(|folder| {
            let entries = manifest(&format!("{folder}/Cargo.toml"));
            if entries.is_none() {
                faults.push(format!("Cargo.toml: the member {folder} has no Cargo.toml"));
            }
            Member::read(folder, entries?)
        })
        .collect();
    for member in &members {
        member.check(&members, &mut faults);
    }
    for file in files.iter().filter(|file| file.rust().is_some()) {
        let Some(pure) = PURE.iter().find(|pure| file.path.starts_with(&format!("{pure}/src/"))) else {
            continue;
        };
        let code = crate::code::code_only(file.rust().unwrap_or_default());
        for word in IMPURE_CODE.iter().filter(|word| code.contains(**word)) {
            faults.push(format!("{}: names {word}, but {pure} does no input or output", file.path));
        }
    }
    faults
}

struct Member {
    folder: String,
    package: String,
    entries: Vec<Entry>,
}

impl Member {
    fn read(folder: &str, entries: Vec<Entry>) -> Option<Self> {
        let name = entries.iter().find(|entry| entry.section == "package" && entry.key == "name")?;
        let package = name.value.trim_matches('"').to_owned();
        Some(Self { folder: folder.into(), package, entries })
    }

    /// Test crates and benchmarks stand above everything.
    fn is_above(&self) -> bool {
        self.folder.starts_with("tests/") || self.folder.starts_with("benches")
    }

    fn is_service(&self) -> bool {
        self.folder.starts_with("services/")
    }

    fn check(&self, members: &[Self], faults: &mut Vec<String>) {
        let place = format!("{}/Cargo.toml", self.folder);
        let lints =
            |entry: &Entry| entry.section == "lints" && entry.key == "workspace" && entry.value == "true";
        if !self.entries.iter().any(lints) {
            faults.push(format!("{place}: has no `[lints] workspace = true`"));
        }
        let row = TABLE.iter().find(|(folder, _)| *folder == self.folder).map(|(_, may)| *may);
        let Some(may) = row.or(self.is_above().then_some(May::Everything)) else {
            faults.push(format!("{place}: is not in the table of dependencies; add its row to tests/tidy"));
            return;
        };
        let listed = self.entries.iter().filter(|entry| manifest::is_dependencies(&entry.section));
        for (entry, name) in listed.map(|entry| (entry, entry.package())) {
            let for_tests = entry.section.ends_with("dev-dependencies");
            let target = members.iter().find(|member| member.package == name);
            if target.is_some_and(Self::is_above) && !for_tests && !self.is_above() {
                faults.push(format!("{place}: depends on {name}, which is for tests"));
            } else if let Some(target) = target.filter(|target| !target.is_above()) {
                let allowed = match may {
                    May::Members(_) if for_tests => !target.is_service(),
                    May::Members(names) => names.contains(&name.as_str()),
                    May::Crates => !target.is_service(),
                    May::Everything => true,
                };
                if !allowed {
                    faults.push(format!("{place}: may not depend on {name}"));
                }
            }
            if for_tests {
                continue;
            }
            if PURE.contains(&self.folder.as_str()) && IMPURE.contains(&name.as_str()) {
                faults.push(format!("{place}: does no input or output, so it may not depend on {name}"));
            }
            for (foreign, owners, why) in FOREIGN {
                if *foreign == name && !owners.contains(&self.folder.as_str()) {
                    faults.push(format!("{place}: may not depend on {name}: {why}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(folder: &str, package: &str, dependencies: &str) -> Vec<String> {
        let text = |name: &str, rest: &str| {
            format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}")
        };
        let root = format!(
            "[workspace]\nmembers = [\"crates/model\", \"services/ingest\", \"tests/tidy\", \"{folder}\"]\n"
        );
        faults(&[
            File::planted("Cargo.toml", &root),
            File::planted("crates/model/Cargo.toml", &text("runnel-model", "")),
            File::planted("services/ingest/Cargo.toml", &text("runnel-ingest", "")),
            File::planted("tests/tidy/Cargo.toml", &text("runnel-tidy", "")),
            File::planted(&format!("{folder}/Cargo.toml"), &text(package, dependencies)),
        ])
    }

    #[test]
    fn what_the_table_allows_is_no_fault() {
        assert_eq!(
            workspace(
                "crates/contracts",
                "runnel-contracts",
                "[dependencies]\nrunnel-model.workspace = true\n"
            ),
            Vec::<String>::new()
        );
        let everything = "[dependencies]\nrunnel-ingest.workspace = true\n";
        assert_eq!(workspace("services/runnel", "runnel", everything), Vec::<String>::new());
    }

    #[test]
    fn planted_faults_are_found() {
        let cases = [
            ("crates/kernel", "[dependencies]\nrunnel-model = { workspace = true }\n"),
            ("crates/kernel", "[build-dependencies]\nrunnel-model.workspace = true\n"),
            ("crates/kernel", "[dependencies]\ntokio = \"1\"\n"),
            ("crates/kernel", "[dependencies.runnel-model]\nworkspace = true\n"),
            (
                "crates/kernel",
                "[dependencies]\nmodel = { package = \"runnel-model\", path = \"../model\" }\n",
            ),
            ("crates/storage", "[dev-dependencies]\nrunnel-ingest.workspace = true\n"),
            ("crates/storage", "[dependencies]\nrunnel-tidy.workspace = true\n"),
            ("services/funnel", "[dependencies]\nrunnel-ingest.workspace = true\n"),
            ("services/funnel", "[target.'cfg(unix)'.dependencies]\nsqlx = \"1\"\n"),
            ("crates/newcomer", ""),
        ];
        for (folder, dependencies) in cases {
            assert_eq!(workspace(folder, "runnel-x", dependencies).len(), 1, "{folder}: {dependencies}");
        }
    }
}
