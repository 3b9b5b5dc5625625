//! What people did who agree to ads, with the click that led to it.

use std::{collections::BTreeSet, sync::Arc};

use runnel_contracts::{
    proto::{
        audience::v1::{
            ConversionTotals, ExportConversionsRequest, ExportConversionsResponse, ExportedConversion, Goal,
            Withheld,
        },
        catalog::v1::Role,
        event::v1::Money,
    },
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    catalogue::{Catalogue, Known},
    funnel::{self, Range as Asked},
    posed::{self, kept, never_occurred, provenance},
    worth::Priced,
};
use runnel_journeys::{CountError, Happens, LEVELS, Loaded, Marks, MarksFor, Run};
use runnel_model::{Field, Selector, TenantName, limits};
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    Audiences, messages,
    person::{Identifying, People, Person, Word, both, withhold},
};

/// How long ago a click may lie where a request does not say, in milliseconds.
const CLICK_WITHIN_MS: i64 = 90 * 24 * 3_600_000;

/// Kinds of click ids that Google gives out; the first where a kind is not said.
const CLICKS: [&str; 3] = ["gclid", "gbraid", "wbraid"];
/// Kinds of others.
const OTHER_CLICKS: [&str; 8] =
    ["dclid", "fbclid", "msclkid", "ttclid", "twclid", "li_fat_id", "yclid", "igshid"];

/// What is looked for in journeys.
#[derive(Debug)]
struct Sought {
    loaded: Arc<Loaded>,
    marks: Marks,
    people: People,
    /// The column of click ids.
    clicks: usize,
    click_within_ms: i64,
    range: Asked,
    /// By conversion: name, goal, and what one is worth.
    conversions: Vec<(String, Goal, Priced)>,
}

/// When which conversion happens in a run, and whose journeys do not count.
#[derive(Debug)]
struct Marked {
    /// By conversion, a bit an event.
    marks: Vec<Vec<u64>>,
    skip: Vec<u64>,
}

/// A visitor of a run, and an event.
type Place = (usize, usize);

/// What was found of some visitors.
#[derive(Debug, Default)]
struct Found {
    rows: Vec<ExportedConversion>,
    totals: Vec<ConversionTotals>,
}

fn goal(known: &Known) -> Goal {
    if known.wire.role() == Role::Macro { Goal::Primary } else { Goal::Secondary }
}

fn click_id() -> Selector {
    Selector::field(Field::CampaignClickId)
}

/// Kind and id of a click, as `gclid=EAIa…`, `gclid:EAIa…` or the id alone; `None` for clicks of other networks, and for a kind alone.
fn click(text: &str) -> Option<(String, String)> {
    let Some((kind, id)) = text.split_once(['=', ':']) else {
        let is_kind = OTHER_CLICKS.iter().chain(&CLICKS).any(|kind| text.eq_ignore_ascii_case(kind));
        return (!is_kind && !text.is_empty()).then(|| (CLICKS[0].to_owned(), text.to_owned()));
    };
    let kind = CLICKS.iter().find(|known| kind.trim().eq_ignore_ascii_case(known))?;
    (!id.is_empty()).then(|| ((*kind).to_owned(), id.to_owned()))
}

/// The conversions that a request names, or all.
fn chosen<'a>(catalogue: &'a Catalogue, names: &[String]) -> Result<Vec<&'a Known>, Refusal> {
    let most = limits::EXPORTED_CONVERSIONS;
    let too_many = |count: usize| {
        let text =
            format!("At most {most} conversions are exported at a time; these are {count}. Name some.");
        Refusal::field(Reason::NumberOutOfRange, "conversions", text)
    };
    let asked = if names.is_empty() { catalogue.conversions.len() } else { names.len() };
    if asked > most {
        return Err(too_many(asked));
    }
    if names.is_empty() {
        return Ok(catalogue.conversions.values().collect());
    }
    let found = |(at, name): (usize, &String)| catalogue.conversion(&format!("conversions[{at}]"), name);
    let mut chosen = names.iter().enumerate().map(found).collect::<Result<Vec<_>, _>>()?;
    chosen.sort_unstable_by(|one, other| one.wire.name.cmp(&other.wire.name));
    chosen.dedup_by(|one, other| one.wire.name == other.wire.name);
    Ok(chosen)
}

impl Sought {
    /// When which conversion happens in a run.
    fn marked(&self, (run, skip): (&Run, Option<&[u64]>)) -> Result<Marked, CountError> {
        let view = self.marks.view(run, skip)?;
        let marks = (0..self.conversions.len()).map(|at| view.conversion(at)).collect();
        Ok(Marked { marks, skip: skip.unwrap_or_default().to_vec() })
    }

    /// Looks at the next visitors of a run, from an event of one on. Gives what was found, and whose turn it is then.
    fn look(&self, run: &Run, marked: &Marked, (mut visitor, mut event): Place) -> (Found, Place) {
        let mut found = Found { rows: Vec::new(), totals: self.totals() };
        while visitor < run.visitors.len() {
            let skipped = marked.skip.get(visitor / 64).is_some_and(|word| word >> (visitor % 64) & 1 == 1);
            if !skipped && let Some(next) = self.visitor(run, visitor, event, &marked.marks, &mut found) {
                return (found, (visitor, next));
            }
            (visitor, event) = (visitor + 1, 0);
        }
        (found, (visitor, event))
    }

    /// Looks at the events of a visitor from one on. The one at which it stopped, since there are enough for a message.
    fn visitor(
        &self,
        run: &Run,
        visitor: usize,
        first: usize,
        marks: &[Vec<u64>],
        found: &mut Found,
    ) -> Option<usize> {
        let (range, mut click) = (&self.range, None);
        let mut agreed: Option<(Word, Person)> = None;
        for event in run.range(visitor) {
            let time_ms = run.time(event);
            if let Some(at) = self.click(run, event) {
                click = Some((time_ms, at));
            }
            if event < first || !(range.from_ms..range.until_ms).contains(&time_ms) {
                continue;
            }
            if found.rows.len() >= limits::PAGE {
                return Some(event);
            }
            for (at, (name, goal, priced)) in self.conversions.iter().enumerate() {
                if marks[at][event / 64] >> (event % 64) & 1 == 0 {
                    continue;
                }
                let totals = &mut found.totals[at];
                totals.happened += 1;
                let (word, person) = agreed.get_or_insert_with(|| {
                    let word = self.people.ads(run, visitor);
                    let person = match word {
                        Word::Granted => self.people.person(&self.loaded, run, visitor, range.as_of_ms),
                        _ => Person::default(),
                    };
                    (word, person)
                });
                let withheld = totals.withheld.get_or_insert_default();
                let click =
                    click.as_ref().filter(|(clicked_ms, _)| time_ms - clicked_ms <= self.click_within_ms);
                let identifiers = person.told();
                if *word != Word::Granted || (click.is_none() && identifiers.is_none()) {
                    withhold(withheld, *word);
                    continue;
                }
                totals.exported += 1;
                let value = priced.of_event(&self.loaded, run, event).filter(|(_, micros)| *micros != 0);
                let (click_kind, click_id) = click.map(|(_, click)| click.clone()).unwrap_or_default();
                found.rows.push(ExportedConversion {
                    conversion: name.clone(),
                    goal: *goal as i32,
                    time_ms,
                    click_id,
                    value: value.map(|(currency, micros)| Money { micros, currency }),
                    identifiers,
                    click_kind,
                    personalization: self.people.personalization(run, visitor).state() as i32,
                });
            }
        }
        None
    }

    /// The click at an event, kind and id, if it is one of this network.
    fn click(&self, run: &Run, event: usize) -> Option<(String, String)> {
        let code = run.columns.get(self.clicks)?.values().get(event).filter(|code| *code != 0)?;
        let (_, dictionary) = self.loaded.columns.get(self.clicks)?;
        click(&dictionary.value(code)?.show())
    }

    /// Nothing of each conversion.
    fn totals(&self) -> Vec<ConversionTotals> {
        let nothing = |(name, goal, _): &(String, Goal, Priced)| ConversionTotals {
            conversion: name.clone(),
            goal: *goal as i32,
            withheld: Some(Withheld::default()),
            ..ConversionTotals::default()
        };
        self.conversions.iter().map(nothing).collect()
    }
}

fn add(sum: &mut ConversionTotals, more: &ConversionTotals) {
    sum.happened += more.happened;
    sum.exported += more.exported;
    sum.withheld = Some(both(sum.withheld, more.withheld));
}

impl Audiences {
    /// Sends what people did who agree to ads, one shard after the other.
    pub(super) async fn conversions(
        &self,
        tenant: &TenantName,
        request: ExportConversionsRequest,
        now_ms: i64,
        parts: &mpsc::Sender<Result<ExportConversionsResponse, Status>>,
    ) -> Result<(), Refusal> {
        let range = funnel::range(request.range.as_ref(), request.as_of_ms, now_ms)?;
        let click_within_ms = request.click_within_ms.unwrap_or(CLICK_WITHIN_MS);
        if !limits::CLICK_WITHIN_MS.contains(&click_within_ms) {
            let most = limits::CLICK_WITHIN_MS.end();
            let text = format!("click_within_ms is 0 to {most} milliseconds; it is {click_within_ms}.");
            return Err(Refusal::field(Reason::NumberOutOfRange, "click_within_ms", text));
        }
        let identifying = Identifying::new(request.identifiers.as_ref())?;
        let catalogue = Catalogue::read(self.journeys.store(), tenant).await?;
        let chosen = chosen(&catalogue, &request.conversions)?;
        let wanted = MarksFor {
            conversions: chosen.iter().map(|known| Happens::from(known.conversion.clone())).collect(),
            settings: catalogue.settings.clone(),
            pages: false,
        };
        let mut columns = wanted.selectors();
        columns.extend(identifying.columns());
        columns.insert(click_id());
        for known in &chosen {
            let (amount, currency) = known.conversion.worth.columns();
            columns.extend(amount.into_iter().chain(currency));
        }
        let (loaded, definition) =
            posed::loaded(&self.journeys, tenant, columns, &catalogue.settings, false).await?;
        let mut notes: Vec<String> = kept(&loaded, range.from_ms)?.into_iter().collect();
        let mut names = BTreeSet::new();
        chosen.iter().for_each(|known| known.conversion.event_names(&mut names));
        let unknown = names.iter().filter(|name| loaded.names.find(name).is_none());
        notes.extend(unknown.map(|name| never_occurred(name)));
        notes.extend(identifying.notes(&loaded));
        let mut provenance = Some(provenance(&loaded, definition, range.as_of_ms, notes));
        let bad = |fault| Refusal::field(Reason::PredicateInvalid, "conversion", format!("{fault}."));
        let priced = |known: &&Known| {
            (known.wire.name.clone(), goal(known), Priced::new(&known.conversion.worth, &loaded))
        };
        let sought = Arc::new(Sought {
            marks: wanted.derive(&loaded, range.as_of_ms).map_err(bad)?,
            people: identifying.find(&loaded),
            clicks: loaded.column(&click_id()).unwrap_or(usize::MAX),
            click_within_ms,
            range,
            conversions: chosen.iter().map(priced).collect(),
            loaded: loaded.clone(),
        });
        let mut totals = sought.totals();
        let runs = (0..loaded.shards.len()).flat_map(|shard| (0..LEVELS).map(move |number| (shard, number)));
        for (shard, number) in runs {
            if loaded.shards[shard].runs()[number].0.events() == 0 {
                continue;
            }
            let asked = sought.clone();
            let marked = move || asked.marked(asked.loaded.shards[shard].runs()[number]);
            let marked = Arc::new(self.computed(marked).await?);
            let (mut next, visitors) = ((0, 0), loaded.shards[shard].runs()[number].0.visitors.len());
            // So many visitors at a time that answers, not journeys, decide how much is held in memory.
            while next.0 < visitors {
                let (sought, marked) = (sought.clone(), marked.clone());
                let look =
                    move || Ok(sought.look(sought.loaded.shards[shard].runs()[number].0, &marked, next));
                let (Found { mut rows, totals: more }, then) = self.computed(look).await?;
                next = then;
                totals.iter_mut().zip(&more).for_each(|(sum, more)| add(sum, more));
                rows.sort_by(|one, other| {
                    (one.time_ms, &one.conversion).cmp(&(other.time_ms, &other.conversion))
                });
                for conversions in messages(rows) {
                    let provenance = provenance.take();
                    let part = ExportConversionsResponse { conversions, provenance, totals: Vec::new() };
                    if parts.send(Ok(part)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        let last = ExportConversionsResponse { conversions: Vec::new(), provenance, totals };
        drop(parts.send(Ok(last)).await);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::click;

    #[test]
    fn clicks_of_this_network_are_told_apart() {
        for (text, expected) in [
            ("gclid=EAIaIQ", Some(("gclid", "EAIaIQ"))),
            ("GBRAID:0AAA=", Some(("gbraid", "0AAA="))),
            ("wbraid=x", Some(("wbraid", "x"))),
            ("EAIaIQobChMI", Some(("gclid", "EAIaIQobChMI"))),
            ("fbclid=IwAR", None),
            ("gclid", None),
            ("Fbclid", None),
            ("gclid=", None),
            ("", None),
        ] {
            let expected = expected.map(|(kind, id)| (kind.to_owned(), id.to_owned()));
            assert_eq!(click(text), expected, "{text}");
        }
    }
}
