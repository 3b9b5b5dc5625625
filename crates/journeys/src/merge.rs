//! Merges rows of several origins into one run: canonical order, every identity once, the lowest number wins. Whoever is in one run only is copied as it is there.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    builder::{Room, RunBuilder},
    loaded::is_set,
    rows::Rows,
    run::Run,
};

/// One origin of a shard's events.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    /// What is in memory already. Its numbers are lower than those of any rows. Visitors in `skip` are passed over.
    Run {
        /// The run.
        run: &'a Run,
        /// Visitors that another part holds whole.
        skip: Option<&'a [u64]>,
    },
    /// Some visitors of a run.
    Picked {
        /// The run.
        run: &'a Run,
        /// Positions of the visitors, ascending.
        visitors: &'a [u32],
    },
    /// Decoded rows; only those of one shard, `order[from..until]`.
    Rows {
        /// The rows.
        rows: &'a Rows,
        /// First position in `rows.order`.
        from: usize,
        /// End position in `rows.order`.
        until: usize,
    },
}

/// An event of a part whose id is needed and not resident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MissingIdentity {
    /// Position in the list of parts.
    pub part: usize,
    /// Event of a run, or row of rows.
    pub row: usize,
}

/// One event of the visitor that is being merged.
#[derive(Clone, Copy)]
struct Item {
    time_ms: i64,
    part: u32,
    row: u32,
    /// Who of the part's senders sent it; 0 in a run, whose events are in order.
    sender: u32,
}

/// A part with the place that the merge has reached.
struct Cursor<'a> {
    part: Part<'a>,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next visitor, without moving.
    fn peek(&mut self) -> Option<&'a [u8]> {
        match self.part {
            Part::Run { run, .. } => {
                while self.at < run.visitors.len() && self.passes(self.at) {
                    self.at += 1;
                }
                (self.at < run.visitors.len()).then(|| run.visitors.get(self.at))
            }
            Part::Picked { run, visitors } => {
                visitors.get(self.at).map(|&visitor| run.visitors.get(visitor as usize))
            }
            Part::Rows { rows, from, until } => {
                (from + self.at < until).then(|| rows.visitor(rows.order[from + self.at] as usize))
            }
        }
    }

    /// Copies the visitors of a run who come before another one, beginning with the next, which is one of them. Nothing for rows, which have to be put in order.
    fn copy_below(&mut self, until: Option<&[u8]>, builder: &mut RunBuilder) -> bool {
        let is_below = |visitor: &[u8]| until.is_none_or(|until| visitor < until);
        match self.part {
            Part::Rows { .. } => return false,
            Part::Run { run, .. } => {
                while self.peek().is_some_and(is_below) {
                    let start = self.at;
                    self.at += 1;
                    while self.at < run.visitors.len()
                        && is_below(run.visitors.get(self.at))
                        && !self.passes(self.at)
                    {
                        self.at += 1;
                    }
                    builder.copy(run, start..self.at);
                }
            }
            Part::Picked { run, visitors } => {
                while self.peek().is_some_and(is_below) {
                    let visitor = visitors[self.at] as usize;
                    builder.copy(run, visitor..visitor + 1);
                    self.at += 1;
                }
            }
        }
        true
    }

    /// Whether a visitor of a run is passed over.
    fn passes(&self, visitor: usize) -> bool {
        matches!(self.part, Part::Run { skip: Some(skip), .. } if is_set(skip, visitor))
    }

    /// Takes the next visitor's events.
    fn take(&mut self, number: u32, items: &mut Vec<Item>) {
        match self.part {
            Part::Run { run, .. } => {
                items.extend(run.range(self.at).map(|event| Item {
                    time_ms: run.time(event),
                    part: number,
                    row: event as u32,
                    sender: 0,
                }));
                self.at += 1;
            }
            Part::Picked { run, visitors } => {
                let range = run.range(visitors[self.at] as usize);
                items.extend(range.map(|event| Item {
                    time_ms: run.time(event),
                    part: number,
                    row: event as u32,
                    sender: 0,
                }));
                self.at += 1;
            }
            Part::Rows { rows, from, until } => {
                let order = &rows.order[from + self.at..until];
                let visitor = rows.visitors[order[0] as usize];
                let count = order.iter().take_while(|&&row| rows.visitors[row as usize] == visitor).count();
                items.extend(order[..count].iter().map(|&row| Item {
                    time_ms: rows.times[row as usize],
                    part: number,
                    row,
                    sender: rows.sender(row as usize),
                }));
                self.at += count;
            }
        }
    }
}

/// What a merge makes.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The run.
    pub run: Run,
    /// Visitors of it who are not as they were in a run of before, ascending.
    pub anew: Vec<usize>,
}

/// Merges the parts of one shard into a run with `columns` loaded columns. Fails with the events whose ids must be read first.
pub(crate) fn merge(
    parts: &[Part<'_>],
    columns: usize,
    keep_identities: bool,
) -> Result<Merged, Vec<MissingIdentity>> {
    let mut room = Room::default();
    parts.iter().for_each(|part| reserve(part, &mut room));
    let mut builder = RunBuilder::new(columns, keep_identities, &room);
    let (mut missing, mut anew) = (Vec::new(), Vec::new());
    let mut cursors: Vec<Cursor<'_>> = parts.iter().map(|&part| Cursor { part, at: 0 }).collect();
    let mut heap = BinaryHeap::with_capacity(parts.len());
    for (number, cursor) in cursors.iter_mut().enumerate() {
        if let Some(visitor) = cursor.peek() {
            heap.push(Reverse((visitor, number)));
        }
    }
    let mixed = parts.iter().any(|part| matches!(part, Part::Rows { rows, .. } if rows.is_mixed()));
    let mut items = Vec::new();
    while let Some(Reverse((visitor, number))) = heap.pop() {
        let other = heap.peek().map(|Reverse((other, _))| *other);
        if other != Some(visitor) && cursors[number].copy_below(other, &mut builder) {
            heap.extend(cursors[number].peek().map(|following| Reverse((following, number))));
            continue;
        }
        items.clear();
        let mut next = Some(number);
        let mut origins = 0;
        while let Some(number) = next {
            cursors[number].take(number as u32, &mut items);
            origins += 1;
            if let Some(following) = cursors[number].peek() {
                heap.push(Reverse((following, number)));
            }
            next = match heap.peek() {
                Some(Reverse((same, _))) if *same == visitor => heap.pop().map(|Reverse((_, number))| number),
                _ => None,
            };
        }
        if origins > 1 || mixed && items.iter().any(|item| item.sender != items[0].sender) {
            order(parts, &mut items, &mut missing);
        }
        if missing.is_empty() {
            for item in &items {
                emit(&mut builder, &parts[item.part as usize], item.row as usize);
            }
            anew.push(builder.visitors());
            builder.visitor(visitor);
        }
    }
    if missing.is_empty() {
        Ok(Merged { run: builder.finish(), anew })
    } else {
        missing.sort_unstable();
        missing.dedup();
        Err(missing)
    }
}

/// Makes room for a part.
fn reserve(part: &Part<'_>, room: &mut Room) {
    match *part {
        Part::Run { run, skip } => room.run(run, skip.unwrap_or_default()),
        Part::Picked { run, visitors } => {
            visitors.iter().for_each(|&at| room.visitors(run, at as usize..at as usize + 1));
        }
        Part::Rows { rows, from, until } => {
            let times = rows.order[from..until].iter().map(|&row| rows.times[row as usize]);
            let span_ms =
                times.fold((i64::MAX, i64::MIN), |(from, until), time| (from.min(time), until.max(time)));
            room.events(until - from, span_ms);
        }
    }
}

/// Puts one visitor's events into canonical order and drops copies. Each part is in order by itself, as far as it has one sender.
fn order(parts: &[Part<'_>], items: &mut Vec<Item>, missing: &mut Vec<MissingIdentity>) {
    items.sort_by_key(|item| item.time_ms);
    let mut kept = 0;
    let mut start = 0;
    while start < items.len() {
        let time_ms = items[start].time_ms;
        let end = start + items[start..].iter().take_while(|item| item.time_ms == time_ms).count();
        let mut group = items[start..end].to_vec();
        let first = (group[0].part, group[0].sender);
        if group.iter().any(|item| (item.part, item.sender) != first) {
            let unknown = group.iter().filter(|item| identity(parts, item).is_none());
            let before = missing.len();
            missing.extend(
                unknown.map(|item| MissingIdentity { part: item.part as usize, row: item.row as usize }),
            );
            if missing.len() == before {
                drop_copies(parts, &mut group);
            }
        }
        for item in group {
            items[kept] = item;
            kept += 1;
        }
        start = end;
    }
    items.truncate(kept);
}

/// Keeps the lowest number of each id and orders the rest by (sequence, id).
fn drop_copies(parts: &[Part<'_>], group: &mut Vec<Item>) {
    let id = |item: &Item| identity(parts, item).unwrap_or_default();
    group.sort_by(|left, right| (id(left).0, number(parts, left)).cmp(&(id(right).0, number(parts, right))));
    group.dedup_by(|later, earlier| id(later).0 == id(earlier).0);
    group.sort_by(|left, right| (id(left).1, id(left).0).cmp(&(id(right).1, id(right).0)));
}

/// An event's id and sequence, if resident.
fn identity<'a>(parts: &[Part<'a>], item: &Item) -> Option<(&'a [u8], i64)> {
    let row = item.row as usize;
    match parts[item.part as usize] {
        Part::Run { run, .. } | Part::Picked { run, .. } => run.identity(row),
        Part::Rows { rows, .. } => rows.identity(row),
    }
}

/// The sequence number that an event came with; 0 for what is in memory already.
fn number(parts: &[Part<'_>], item: &Item) -> u64 {
    match parts[item.part as usize] {
        Part::Run { .. } | Part::Picked { .. } => 0,
        Part::Rows { rows, .. } => rows.number(item.row as usize),
    }
}

#[inline]
fn emit(builder: &mut RunBuilder, part: &Part<'_>, row: usize) {
    match *part {
        Part::Run { run, .. } | Part::Picked { run, .. } => {
            let identity = run.identities.as_ref().map_or((&[][..], 0), |all| all.get(row));
            let codes = run.columns.iter().map(|column| column.values().get(row).unwrap_or(0));
            builder.event(run.time(row), run.kind(row), codes, identity);
        }
        Part::Rows { rows, .. } => {
            let identity = rows.identity(row).unwrap_or((&[], 0));
            let codes = rows.columns.iter().map(|codes| codes.get(row).copied().unwrap_or(0));
            builder.event(rows.times[row], rows.kinds[row], codes, identity);
        }
    }
}
