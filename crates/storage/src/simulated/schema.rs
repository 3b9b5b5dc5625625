//! Tables as the migrations make them.

use super::{
    table::{Table, Tables},
    value::Value,
};

/// Tables that hold no tenant's data and are read across tenants.
const REFERENCE: [&str; 4] = ["tenants", "keys", "chores", "runnel_schema"];

/// Reads the tables of migrations. Of a column its name and its default are known, of a table its key.
pub(super) fn tables(migrations: &[&str]) -> Tables {
    let mut tables = Tables::new();
    for migration in migrations {
        let mut lines = migration.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if let Some((table, column)) = added(line) {
                tables.entry(table.to_owned()).or_default().add(column);
            }
            let Some(name) = line.strip_prefix("CREATE TABLE ").and_then(|rest| rest.strip_suffix(" ("))
            else {
                continue;
            };
            let inside = lines.by_ref().take_while(|line| !line.starts_with(");") && !line.starts_with(") "));
            tables.insert(name.to_owned(), table(name, inside));
        }
    }
    tables
}

/// The table and the column of `ALTER TABLE … ADD COLUMN …;`.
fn added(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("ALTER TABLE ")?.strip_suffix(';')?.split_once(" ADD COLUMN ")
}

fn table<'a>(name: &str, lines: impl Iterator<Item = &'a str>) -> Table {
    let mut table = Table::default();
    for line in lines.filter(|line| !line.starts_with("--")) {
        if let Some(key) = line.strip_prefix("PRIMARY KEY (") {
            let names = key.trim_end_matches([')', ',']).split(", ");
            table.key = names.filter_map(|name| table.column(name)).collect();
            continue;
        }
        if line.contains("PRIMARY KEY") {
            table.key = vec![table.columns.len()];
        }
        table.add(line);
    }
    if !REFERENCE.contains(&name) {
        table.tenant = table.column("tenant_id");
    }
    table
}

impl Table {
    /// Adds a column as a migration declares it.
    fn add(&mut self, column: &str) {
        let default =
            column.split_once("DEFAULT ").and_then(|(_, number)| number.trim_end_matches(',').parse().ok());
        self.defaults.push(default.map_or(Value::Null, Value::Int));
        self.columns.extend(column.split(' ').next().map(str::to_owned));
    }
}
