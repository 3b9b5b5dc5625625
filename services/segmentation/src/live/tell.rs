//! Changes as the contract has them.

use runnel_contracts::proto::{
    event::v1::Money,
    funnel::v1::UnitState,
    segmentation::v1::{
        ChangeCause as Cause, FunnelChange, FunnelChangeKind as Kind, FunnelStanding, FunnelTotals,
        SegmentChange, SegmentTotals, VisitorUnit, WatchFunnelResponse, WatchSegmentResponse,
    },
};
use xxhash_rust::xxh3::xxh3_128;

use super::{
    advance::Change,
    cursor::Cursor,
    watch::Part,
    what::{Legend, Standing, Tally},
};

impl Change {
    /// Unlike that of any other change.
    fn id(&self, until: &Cursor) -> String {
        let (Change { visitor, before, after, at_ms, .. }, revision) = (self, until.revision);
        format!("{:032x}", xxh3_128(format!("{visitor}\0{before:?}{after:?}{at_ms}.{revision:?}").as_bytes()))
    }

    /// What happened to a unit of a funnel.
    pub(super) fn kind(&self) -> Kind {
        use Standing::Unit;
        let (before, after) = (self.before, self.after);
        match self.cause {
            Cause::Snapshot => return Kind::Snapshot,
            Cause::Event | Cause::Time => {}
            _ => {
                let is_open =
                    |unit: Option<Standing>| matches!(unit, Some(Unit { state: UnitState::Open, .. }));
                let reopened = before.is_some() && !is_open(before) && is_open(after);
                return if reopened { Kind::Reopened } else { Kind::Restated };
            }
        }
        let Some(Unit { step, state, entered_ms, .. }) = after else { return Kind::Restated };
        match (before, state) {
            (Some(Unit { state: was, .. }), UnitState::Converted) if was == state => Kind::Restated,
            (_, UnitState::Converted) => Kind::Converted,
            (
                Some(Unit { state: was, .. }),
                UnitState::Dropped | UnitState::Excluded | UnitState::Removed,
            ) if was == state => Kind::Restated,
            (_, UnitState::Dropped) => Kind::Dropped,
            (_, UnitState::Excluded | UnitState::Removed) => Kind::Excluded,
            (Some(Unit { state: was, .. }), UnitState::Open) if was != UnitState::Open => Kind::Reopened,
            (Some(Unit { step: was, .. }), _) if step > was => Kind::Advanced,
            (Some(Unit { entered_ms: was, .. }), _) if entered_ms > was => Kind::Entered,
            (Some(_), _) => Kind::Restated,
            (None, _) => Kind::Entered,
        }
    }
}

/// A message about a segment.
pub(super) fn segment(part: Part) -> WatchSegmentResponse {
    let Part { changes, totals, lagged, reset, cursor, until, .. } = part;
    let change = |change: Change| SegmentChange {
        id: change.id(&until),
        member: change.after.is_some(),
        cause: change.cause as i32,
        at_ms: change.at_ms,
        visitor_id: change.visitor.as_ref().to_owned(),
    };
    let counts =
        |Tally { cells, present }: Tally| SegmentTotals { members: cells.values().sum(), visitors: present };
    WatchSegmentResponse {
        changes: changes.into_iter().map(change).collect(),
        totals: totals.map(counts),
        lagged,
        reset,
        cursor,
        as_of_ms: until.as_of_ms,
        revision: Some(until.revision),
    }
}

/// A message about a funnel.
pub(super) fn funnel(part: Part) -> WatchFunnelResponse {
    let Part { changes, totals, lagged, reset, cursor, until, legend } = part;
    let change = |change: Change| FunnelChange {
        id: change.id(&until),
        kind: change.kind() as i32,
        cause: change.cause as i32,
        at_ms: change.at_ms,
        before: change.before.and_then(|unit| shown(&unit, &legend, change.at_ms)),
        after: change.after.and_then(|unit| shown(&unit, &legend, change.at_ms)).map(|unit| VisitorUnit {
            value: change.value.clone().map(|(currency, micros)| Money { micros, currency }),
            ..unit
        }),
        visitor_id: change.visitor.as_ref().to_owned(),
    };
    let counts = |tally: Tally| FunnelTotals {
        standings: tally
            .cells
            .into_iter()
            .map(|((step, state), units)| FunnelStanding { step: step as u32, state, units })
            .collect(),
    };
    WatchFunnelResponse {
        changes: changes.into_iter().map(change).collect(),
        totals: totals.map(counts),
        lagged,
        reset,
        cursor,
        as_of_ms: until.as_of_ms,
        revision: Some(until.revision),
    }
}

/// A unit for people and programs.
fn shown(unit: &Standing, legend: &Legend, at_ms: i64) -> Option<VisitorUnit> {
    let Standing::Unit { step, state, entered_ms, step_ms } = unit else { return None };
    let label = step.checked_sub(1).and_then(|at| legend.labels.get(at));
    let ends_ms = entered_ms.saturating_add(legend.window_ms);
    Some(VisitorUnit {
        step: *step as u32,
        label: label.cloned().unwrap_or_default(),
        state: *state as i32,
        entered_ms: *entered_ms,
        step_ms: *step_ms,
        ends_ms: (*state == UnitState::Open && ends_ms >= at_ms).then_some(ends_ms),
        value: None,
    })
}
