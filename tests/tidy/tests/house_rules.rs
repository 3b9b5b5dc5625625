//! Every house rule, over this repository.

use runnel_tidy::{
    contract, dependencies, names, sources, surface,
    tree::{self, File},
};
use std::{env, fs};

fn hold(rule: fn(&[File]) -> Vec<String>) {
    let files = tree::files(&tree::root()).expect("the tree can be read");
    assert!(files.len() > 50, "only {} files found: the tree was not read", files.len());
    none(&rule(&files));
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[test]
fn members_depend_on_what_the_table_allows() {
    hold(dependencies::faults);
}

#[test]
fn files_are_short() {
    hold(sources::lengths);
}

#[test]
fn every_module_says_what_it_is() {
    hold(sources::module_comments);
}

#[test]
fn no_forbidden_attribute_macro_or_file_name() {
    hold(sources::habits);
}

#[test]
fn scripts_can_be_run() {
    hold(sources::scripts);
}

#[test]
fn no_large_file() {
    hold(sources::sizes);
}

#[test]
fn names_say_what_a_thing_is() {
    hold(names::empty_names);
}

#[test]
fn texts_are_finished() {
    hold(names::unfinished);
}

#[test]
fn no_path_of_one_machine() {
    hold(names::machine_paths);
}

#[test]
fn the_contract_is_explained_and_lies_where_its_package_says() {
    let on_disk: Vec<String> = tree::files(&tree::root())
        .unwrap()
        .into_iter()
        .filter_map(|file| {
            file.path.strip_prefix("proto/").filter(|path| path.ends_with(".proto")).map(str::to_owned)
        })
        .collect();
    none(&contract::faults(&surface::own_files().unwrap(), &on_disk));
}

#[test]
fn the_surface_is_the_one_that_was_agreed() {
    let place = tree::root().join("proto/surface.lock");
    let current = surface::render(&surface::own_files().unwrap());
    if env::var_os("RUNNEL_BLESS").is_some() {
        fs::write(&place, current).unwrap();
        return;
    }
    let locked = fs::read_to_string(&place).unwrap_or_default();
    assert!(
        locked == current,
        "the contract differs from proto/surface.lock; if that is meant, run it with RUNNEL_BLESS=1:\n{}",
        surface::difference(&locked, &current)
    );
}
