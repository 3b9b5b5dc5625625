//! Landing and exit pages of sessions.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::bits;
use crate::grid::{self, Grid};
use crate::sessions::Sessions;
use crate::slice::Values;

/// The sessions of one page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageRow {
    /// Sessions whose first page this is.
    pub landings: u64,
    /// Sessions whose last page this is.
    pub exits: u64,
    /// Sessions whose only page this is. A page that is seen twice is not the only one.
    pub bounces: u64,
}

impl PageRow {
    fn merge(&mut self, other: &Self) {
        self.landings += other.landings;
        self.exits += other.exits;
        self.bounces += other.bounces;
    }
}

/// Sessions by their first and last pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// Pages that a session begins or ends with, by code; 0 if it is missing. Landings, and likewise exits, of all rows and
    /// `without_page` add up to the number of sessions.
    pub rows: BTreeMap<u32, PageRow>,
    /// Sessions without a page.
    pub without_page: u64,
}

impl Pages {
    /// Adds the sessions of other visitors. The order of merges does not matter.
    pub fn merge(&mut self, other: &Self) {
        for (code, row) in &other.rows {
            self.rows.entry(*code).or_default().merge(row);
        }
        self.without_page += other.without_page;
    }
}

/// Counts the sessions whose first event on the site lies in `range` (milliseconds), by the codes of their first and last
/// pages. `pages` has a bit per event that is a page, and `codes` a code per event; pages off the site do not count.
pub fn pages(sessions: &Sessions<'_>, range: Range<i64>, pages: &[u64], codes: Values<'_>) -> Pages {
    let slice = sessions.slice();
    let on_site = bits::both(sessions.on_site(), pages);
    let mut rows = Grid::<PageRow>::new(1);
    let mut without_page = 0;
    let visits = sessions.visits().map(|visit| visit.session);
    for session in visits.filter(|session| range.contains(&slice.time(session.first))) {
        let events = session.first..session.last + 1;
        let ends = bits::first(&on_site, events.clone()).zip(bits::last(&on_site, events));
        let Some((first, last)) = ends else {
            without_page += 1;
            continue;
        };
        let landing = rows.at(grid::code(Some(codes), first), 0);
        landing.landings += 1;
        landing.bounces += u64::from(first == last);
        rows.at(grid::code(Some(codes), last), 0).exits += 1;
    }
    Pages { rows: rows.cells().map(|(code, _, row)| (code, row)).collect(), without_page }
}
