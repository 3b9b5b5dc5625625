//! Every statement on a tenant's table names the tenant. The statements are read from the source, the tables from the schema.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::{collections::BTreeSet, fs, path::Path};

/// Tables that hold no tenant's data and are read across tenants.
const REFERENCE: [&str; 4] = ["tenants", "keys", "chores", "runnel_schema"];

/// The string literals of Rust source, each on one line.
fn literals(source: &str) -> Vec<String> {
    let (mut literals, mut rest) = (Vec::new(), source);
    while let Some(start) = rest.find('"') {
        // A comment may hold a single quotation mark, a character literal one as well.
        let line = rest[..start].rfind('\n').map_or(0, |at| at + 1);
        let before = &rest[line..start];
        if before.contains("//") || before.ends_with('\'') {
            let end = rest[start..].find('\n').map_or(rest.len(), |at| start + at);
            rest = &rest[end..];
            continue;
        }
        let mut end = start + 1;
        while !rest[end..].starts_with('"') {
            end += if rest[end..].starts_with('\\') {
                2
            } else {
                rest[end..].chars().next().unwrap().len_utf8()
            };
        }
        let lines = rest[start + 1..end].split("\\\n").map(str::trim_start);
        literals.push(lines.collect::<Vec<_>>().concat());
        rest = &rest[end + 1..];
    }
    literals
}

/// The tables that a statement names behind FROM, INTO, UPDATE and JOIN.
fn tables(statement: &str) -> BTreeSet<String> {
    let words: Vec<&str> = statement.split(|at: char| !at.is_alphanumeric() && at != '_').collect();
    let named = words.windows(2).filter(|pair| matches!(pair[0], "FROM" | "INTO" | "UPDATE" | "JOIN"));
    named.map(|pair| pair[1].to_owned()).collect()
}

fn tables_of_tenants() -> BTreeSet<String> {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/postgres/migrations");
    let files =
        fs::read_dir(migrations).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let schema: String = files.collect();
    let created = schema.lines().filter_map(|line| line.strip_prefix("CREATE TABLE "));
    let names =
        created.filter(|line| !line.contains("PARTITION OF")).map(|line| line.split(' ').next().unwrap());
    names.filter(|name| !REFERENCE.contains(name)).map(str::to_owned).collect()
}

#[test]
fn every_statement_on_a_tenants_table_names_the_tenant() {
    let of_tenants = tables_of_tenants();
    assert!(of_tenants.len() >= 11, "{of_tenants:?}");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = BTreeSet::new();
    for folder in ["sql", "postgres", "embedded"] {
        for entry in fs::read_dir(source.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            for statement in literals(&fs::read_to_string(&path).unwrap()) {
                for table in tables(&statement).intersection(&of_tenants) {
                    seen.insert(table.clone());
                    assert!(statement.contains("tenant_id"), "{}: {statement}", path.display());
                }
            }
        }
    }
    assert_eq!(seen, of_tenants, "a table that no statement names, or statements that were not found");
}

#[test]
fn statements_are_read_as_they_are_meant() {
    let source = "a(\"SELECT x FROM y \\\n     WHERE z = 'q'\"); // it's \"not\" one\nb(\"DELETE FROM journal\", '\"')";
    assert_eq!(literals(source), ["SELECT x FROM y WHERE z = 'q'", "DELETE FROM journal"]);
    assert_eq!(
        tables("WITH p AS (INSERT INTO a (b) VALUES (1)) UPDATE c SET d = 1"),
        ["a", "c"].map(str::to_owned).into()
    );
}
