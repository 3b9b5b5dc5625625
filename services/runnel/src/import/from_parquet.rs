//! Parquet with flat columns, read row group by row group, a few thousand rows of every column at a time.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use parquet::{
    errors::ParquetError,
    file::{
        metadata::RowGroupMetaData,
        reader::{ChunkReader, FileReader, RowGroupReader},
        serialized_reader::SerializedFileReader,
    },
    schema::types::SchemaDescriptor,
};
use runnel_model::limits;

use super::{
    collect::Collector,
    encode::RequestWriter,
    fault::{FaultCause, RowFault},
    instant,
    layout::{Layout, Mapping},
    progress::Meter,
    read::Halt,
    typed::{check_text, check_time},
};

mod cell;
mod column;
mod kind;

use cell::Cell;
use column::Column;
use kind::Kind;

/// Rows of every column that are in memory at a time.
const ROWS: usize = 4_096;

/// Where the bytes are.
pub(super) enum Source {
    /// In a file.
    File(File),
    /// In memory, because they came through a pipe or gzip.
    Memory(Bytes),
}

/// Reads a file to its end.
pub(super) fn read(
    source: Source,
    mapping: &Mapping,
    meter: &Meter,
    rows: &mut Collector<'_>,
) -> Result<Layout, Halt> {
    let reading = AssertUnwindSafe(|| match source {
        Source::File(file) => read_from(file, mapping, Some(meter), rows),
        Source::Memory(bytes) => read_from(bytes, mapping, None, rows),
    });
    // The library panics on some damaged files. What it leaves half done here is one event, which the next one, or the end, forgets.
    catch_unwind(reading).unwrap_or_else(|_| {
        Err(Halt::from(FaultCause::NotParquet(impossible("its parts contradict each other"))))
    })
}

fn impossible(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

/// Whether a row group says where its columns are; the library takes it for granted.
fn check_places(group: &RowGroupMetaData) -> Result<(), ParquetError> {
    let sound = group.columns().iter().all(|column| {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        start >= 0
            && column.data_page_offset() >= 0
            && column.compressed_size() >= 0
            && column.num_values() >= 0
    });
    if sound && group.num_rows() >= 0 {
        Ok(())
    } else {
        Err(impossible("a place or a size in it is negative"))
    }
}

fn damaged(row: u64) -> impl Fn(ParquetError) -> Halt {
    move |fault| Halt::at(row, FaultCause::NotParquet(fault))
}

fn read_from<R: ChunkReader + 'static>(
    from: R,
    mapping: &Mapping,
    meter: Option<&Meter>,
    rows: &mut Collector<'_>,
) -> Result<Layout, Halt> {
    let file = SerializedFileReader::new(from).map_err(|fault| Halt::from(FaultCause::NotParquet(fault)))?;
    let schema = file.metadata().file_metadata().schema_descr_ptr();
    let plan = Plan::new(&schema, mapping)?;
    let mut row = 1;
    for group in 0..file.num_row_groups() {
        check_places(file.metadata().row_group(group)).map_err(damaged(row))?;
        let group = file.get_row_group(group).map_err(damaged(row))?;
        read_group(group.as_ref(), &plan, mapping, &mut row, rows)?;
        if let Some(meter) = meter {
            meter.add(u64::try_from(group.metadata().compressed_size()).unwrap_or(0));
        }
    }
    if row == 1 { Err(FaultCause::Empty.into()) } else { Ok(plan.layout) }
}

/// What is to be read of a file.
struct Plan {
    layout: Layout,
    /// The columns that are read: position in the file, kind, whether values may be absent.
    columns: Vec<(usize, Kind, bool)>,
    /// Where a column of the file is among those that are read.
    places: Vec<Option<usize>>,
}

impl Plan {
    fn new(schema: &SchemaDescriptor, mapping: &Mapping) -> Result<Plan, FaultCause> {
        // A nested column has several leaves under one name at the top; it is named once, and must be ignored.
        let leaves = schema.columns();
        let mut names: Vec<String> = Vec::new();
        let mut flat = Vec::new();
        for (at, leaf) in leaves.iter().enumerate() {
            let name = leaf.path().parts().first().cloned().unwrap_or_default();
            let is_flat = leaf.path().parts().len() == 1 && leaf.max_rep_level() == 0;
            if is_flat || names.last() != Some(&name) {
                names.push(name);
                flat.push(is_flat.then_some(at));
            }
        }
        let layout = Layout::new(&names, mapping)?;
        let mut plan = Plan { places: vec![None; names.len()], layout: layout.clone(), columns: Vec::new() };
        let mut need = |column: usize, purpose: &'static str, fits: &dyn Fn(&Kind) -> bool| {
            let leaf = flat[column].map(|at| (at, &leaves[at]));
            let kind =
                leaf.map(|(_, leaf)| Kind::of(leaf)).unwrap_or_else(|| Kind::Unfit("nested".to_owned()));
            match (leaf, fits(&kind)) {
                (Some((at, leaf)), true) => {
                    if plan.places[column].is_none() {
                        plan.places[column] = Some(plan.columns.len());
                        plan.columns.push((at, kind, leaf.max_def_level() > 0));
                    }
                    Ok(())
                }
                _ => Err(FaultCause::ColumnType { name: names[column].clone(), kind: kind.name(), purpose }),
            }
        };
        let is_id = |kind: &Kind| kind.is_text() || kind.is_whole();
        need(layout.visitor, "a visitor", &is_id)?;
        need(layout.time, "a time", &|kind| kind.is_text() || kind.is_whole() || kind.is_instant())?;
        need(layout.name, "an event's name", &Kind::is_text)?;
        layout.event_id.map_or(Ok(()), |at| need(at, "an event's id", &is_id))?;
        layout.sequence.map_or(Ok(()), |at| need(at, "a sequence", &Kind::is_whole))?;
        for property in &layout.properties {
            need(property.at, "a property", &|kind| !matches!(kind, Kind::Unfit(_)))?;
        }
        Ok(plan)
    }
}

fn read_group(
    group: &dyn RowGroupReader,
    plan: &Plan,
    mapping: &Mapping,
    row: &mut u64,
    rows: &mut Collector<'_>,
) -> Result<(), Halt> {
    let mut columns = Vec::with_capacity(plan.columns.len());
    for (at, kind, nullable) in &plan.columns {
        let reader = group.get_column_reader(*at).map_err(damaged(*row))?;
        columns.push(Column::new(reader, kind.clone(), *nullable));
    }
    let mut left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    while left > 0 {
        let wanted = left.min(ROWS);
        for column in &mut columns {
            let read = column.fill(wanted).map_err(damaged(*row))?;
            if read != wanted {
                let text = format!("a column has {read} rows where {wanted} are announced");
                return Err(damaged(*row)(ParquetError::EOF(text)));
            }
        }
        for _ in 0..wanted {
            columns.iter_mut().for_each(Column::advance);
            let one = Row { plan, mapping, columns: &columns };
            match one.write(&mut rows.writer) {
                Ok(()) => rows.accepted(*row, None)?,
                Err(fault) => rows.rejected(*row, fault, one.shown().as_bytes())?,
            }
            *row += 1;
        }
        left -= wanted;
    }
    Ok(())
}

/// One row: every column stands at its value.
struct Row<'a> {
    plan: &'a Plan,
    mapping: &'a Mapping,
    columns: &'a [Column],
}

impl<'a> Row<'a> {
    fn cell(&self, column: usize) -> Cell<'a> {
        self.plan.places[column].map_or(Cell::Null, |place| self.columns[place].cell())
    }

    /// Writes the row as an event. A fault leaves nothing behind.
    fn write(&self, writer: &mut RequestWriter) -> Result<(), RowFault> {
        let Row { plan: Plan { layout, .. }, mapping, .. } = *self;
        writer.begin();
        if let Some(text) = layout.event_id.and_then(|at| self.cell(at).text()) {
            writer.event_id(check_text("event_id", &text, limits::ID_BYTES)?.as_bytes());
        }
        let visitor = self.required("visitor", layout.visitor, &mapping.visitor.column)?;
        writer.visitor_id(check_text("visitor_id", &visitor, limits::ID_BYTES)?.as_bytes());
        writer.time_ms(check_time(self.time()?)?);
        let name = self.required("name", layout.name, &mapping.name.column)?;
        writer.name(check_text("name", &name, limits::ID_BYTES)?.as_bytes());
        if let Some(cell) = layout.sequence.map(|at| self.cell(at)) {
            match cell {
                Cell::Null => {}
                Cell::Int(value) => writer.sequence(value),
                other => return Err(RowFault::sequence(&mapping.sequence.column, &other.shown())),
            }
        }
        for property in &layout.properties {
            self.cell(property.at).property(property, writer)?;
        }
        writer.commit()
    }

    fn required(
        &self,
        what: &str,
        column: usize,
        name: &str,
    ) -> Result<std::borrow::Cow<'a, [u8]>, RowFault> {
        self.cell(column).text().filter(|text| !text.is_empty()).ok_or_else(|| RowFault::missing(what, name))
    }

    fn time(&self) -> Result<i64, RowFault> {
        let Row { plan: Plan { layout, .. }, mapping, .. } = *self;
        let column = &mapping.time.column;
        let cell = self.cell(layout.time);
        let time = match &cell {
            Cell::Null => return Err(RowFault::missing("time", column)),
            Cell::Int(value) => instant::from_unit(*value, mapping.unit),
            Cell::Instant { value, digits } => Some(value.div_euclid(10i64.pow(digits.saturating_sub(3)))),
            Cell::Text(text) => instant::parse(text, mapping.unit),
            _ => None,
        };
        time.ok_or_else(|| RowFault::time(column, &cell.shown()))
    }

    /// The row as a JSON object, for the rejects file.
    fn shown(&self) -> String {
        let mut object = serde_json::Map::new();
        let layout = &self.plan.layout;
        let roles = [
            (layout.event_id, &self.mapping.event_id),
            (Some(layout.visitor), &self.mapping.visitor),
            (Some(layout.time), &self.mapping.time),
            (Some(layout.name), &self.mapping.name),
            (layout.sequence, &self.mapping.sequence),
        ];
        for (at, role) in roles {
            if let Some(at) = at {
                object.insert(role.column.clone(), self.cell(at).json());
            }
        }
        for property in &layout.properties {
            object.insert(property.name.clone(), self.cell(property.at).json());
        }
        object.retain(|_, value| !value.is_null());
        serde_json::Value::Object(object).to_string()
    }
}
