//! Every bound of the product. A refusal names one of these and the value that was given.

/// Longest visitor id, event id, event name, property name or request id, in bytes.
pub const ID_BYTES: usize = 256;
/// Most properties of an event.
pub const PROPERTIES: usize = 64;
/// Longest property value, in bytes.
pub const VALUE_BYTES: usize = 8 * 1024;
/// Largest event on the wire, in bytes.
pub const EVENT_BYTES: usize = 64 * 1024;
/// Most events of a batch.
pub const BATCH_EVENTS: usize = 10_000;
/// Largest message on the wire, in bytes, after decompression.
pub const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Most elements of a message that is decoded as a whole: fields of any kind at any depth.
pub const MESSAGE_ELEMENTS: usize = 20_000;
/// Most event names of a tenant.
pub const EVENT_NAMES: usize = 65_535;
/// Most property names of a tenant.
pub const PROPERTY_NAMES: usize = 1_024;
/// Largest page of a listing.
pub const PAGE: usize = 1_000;
/// Page size where a request does not say.
pub const PAGE_DEFAULT: usize = 100;
/// How far ahead of the server an event may be, in milliseconds.
pub const FUTURE_REFUSED_MS: i64 = 24 * 3_600_000;
/// How far ahead of the server an event may be without a flag, in milliseconds.
pub const FUTURE_FLAGGED_MS: i64 = 3_600_000;
/// Earliest and latest event time, in milliseconds since the Unix epoch (years 0001 and 9999), so that sums of a time and a window never overflow.
pub const TIME_RANGE_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;
/// How long a session stays open without events, in milliseconds; an event that comes exactly that long after the one before still belongs to it.
pub const SESSION_GAP_MS: i64 = 30 * 60_000;
/// How long a receipt is kept, in milliseconds.
pub const RECEIPT_MS: i64 = 7 * 24 * 3_600_000;
/// Steps of a funnel.
pub const STEPS: std::ops::RangeInclusive<usize> = 2..=32;
/// Most exclusions of a funnel.
pub const EXCLUSIONS: usize = 16;
/// Most held columns of a funnel.
pub const HOLDS: usize = 3;
/// Longest window of a funnel, in milliseconds.
pub const WINDOW_MS: i64 = 366 * 24 * 3_600_000;
/// Longest grace of a funnel, in milliseconds.
pub const GRACE_MS: i64 = 60_000;
/// Most alternatives of a step.
pub const ALTERNATIVES: usize = 16;
/// Most nodes of a condition.
pub const PREDICATE_NODES: usize = 64;
/// Deepest nesting of a condition.
pub const PREDICATE_DEPTH: usize = 8;
/// Most constants of one comparison.
pub const PREDICATE_VALUES: usize = 1_000;
/// Longest regular expression, in bytes.
pub const REGEX_BYTES: usize = 256;
/// Most rows of a break-down.
pub const BREAK_DOWN_ROWS: usize = 1_000;
/// Rows of a break-down where a request does not say.
pub const BREAK_DOWN_ROWS_DEFAULT: usize = 10;
/// Most buckets of a trend.
pub const TREND_BUCKETS: usize = 10_000;
/// Most identifications of a request.
pub const IDENTIFICATIONS: usize = 1_000;
/// Most different identifications of one anonymous id.
pub const IDENTIFICATIONS_OF_AN_ID: usize = 100;
/// Most identifications and merges of a tenant.
pub const CLAIMS: u64 = 100_000_000;
/// Identifications and merges that are read at a time.
pub const CLAIMS_READ: usize = 10_000;
/// Most identifications and merges that make one person, where they are told.
pub const IDS_OF_A_PERSON: usize = 100_000;
/// Restatements of a tenant that are kept; older ones are forgotten.
pub const RESTATEMENTS: usize = 10_000;
/// Counts that one restatement tells of.
pub const RESTATED_CELLS: usize = 1_000;
/// Most restatements of an answer.
pub const RESTATEMENTS_PAGE: usize = 20;
/// Longest name of a saved funnel, in bytes.
pub const FUNNEL_NAME_BYTES: usize = 128;
/// Most saved funnels of a tenant.
pub const FUNNELS: usize = 1_000;
/// Most saved segments of a tenant.
pub const SEGMENTS: usize = 1_000;
/// Nodes of a segment's condition.
pub const CONDITION_NODES: usize = 64;
/// Levels of a segment's condition.
pub const CONDITION_DEPTH: usize = 8;
/// Nodes of a segment's condition with those of all segments that it names.
pub const SEGMENT_NODES: usize = 512;
/// Lists that a segment's condition names, with those of all segments that it names.
pub const LISTS_OF_A_SEGMENT: usize = 10;
/// Most lists of a tenant.
pub const LISTS: usize = 100;
/// Most ids on a list.
pub const LIST_MEMBERS: usize = 100_000;
/// Ids that are put on a list, or taken off it, at a time.
pub const LIST_CHANGES: usize = 1_000;
/// Longest name of a list, in bytes.
pub const LIST_NAME_BYTES: usize = FUNNEL_NAME_BYTES;
/// How often something may have to happen.
pub const HAPPENED_TIMES: u32 = 1_000_000;
/// How long a condition of a segment may look back, in milliseconds.
pub const LOOK_BACK_MS: std::ops::RangeInclusive<i64> = 1_000..=WINDOW_MS;
/// How far back a stage of intent looks where it is not said, in milliseconds.
pub const STAGE_WITHIN_MS: i64 = 30 * 24 * 3_600_000;
/// Segments, and funnels, that are asked for of a visitor at a time.
pub const ASKED_OF_A_VISITOR: usize = 20;
/// Events of a batch whose effects are told.
pub const EFFECT_EVENTS: usize = 100;
/// Visitors that such a batch names.
pub const EFFECT_VISITORS: usize = 10;
/// Segments and funnels of a tenant that are watched at a time.
pub const WATCHED: usize = 64;
/// Visitors of whom alone a watcher is told.
pub const WATCHED_VISITORS: usize = 1_000;
/// How often totals are told to a watcher, in milliseconds.
pub const TOTALS_EVERY_MS: std::ops::RangeInclusive<i64> = 100..=3_600_000;
/// Properties in which e-mail addresses, and those in which phone numbers, are looked for.
pub const IDENTIFIER_PROPERTIES: usize = 4;
/// Conversions that are exported at a time.
pub const EXPORTED_CONVERSIONS: usize = 32;
/// How long before a conversion the click may lie that led to it, in milliseconds.
pub const CLICK_WITHIN_MS: std::ops::RangeInclusive<i64> = 0..=WINDOW_MS;
/// Segments that a preview compares with.
pub const COMPARED_SEGMENTS: usize = 10;
/// Longest name of a conversion, in bytes.
pub const CONVERSION_NAME_BYTES: usize = 128;
/// Longest description of a conversion, in bytes.
pub const DESCRIPTION_BYTES: usize = 1_024;
/// Most conversions of a tenant.
pub const CONVERSIONS: usize = 1_000;
/// How long a session may have to last, in milliseconds.
pub const SESSION_DURATION_MS: std::ops::RangeInclusive<i64> = 1..=24 * 3_600_000;
/// How many events or pages a session may have to hold.
pub const SESSION_EVENTS: std::ops::RangeInclusive<u32> = 2..=10_000;
/// Which of a visitor's sessions may be asked for by number.
pub const VISIT_NUMBER: std::ops::RangeInclusive<u32> = 2..=1_000;
/// How long a gap between sessions may be that makes a new one, in milliseconds.
pub const SESSION_GAPS_MS: std::ops::RangeInclusive<i64> = 60_000..=24 * 3_600_000;
/// Most matches that say which events are pages.
pub const PAGE_MATCHES: usize = 16;
/// Most examples of a conversion in a preview.
pub const EXAMPLES: usize = 100;
/// Most events or conversions that a trend counts at a time.
pub const TREND_SERIES: usize = 32;
/// Most buckets of a retention.
pub const RETENTION_BUCKETS: usize = 366;
/// Days that one request says daily counts of.
pub const DAILY_COUNT_DAYS: usize = 400;
/// Daily counts of one request.
pub const DAILY_COUNTS: usize = 10_000;
/// Daily counts that are kept of one day.
pub const DAILY_COUNTS_OF_A_DAY: usize = 1_000;
/// Steps of a funnel that are known by counts only.
pub const COUNTED_STEPS: usize = 4;
/// Bytes of the name of a ratio.
pub const METRIC_BYTES: usize = 128;
/// Days for which events are kept, where they are not kept for ever: so many that the longest month is over and counted before the first of its days goes, and no more than
/// have durable counts.
pub const RETENTION_DAYS: std::ops::RangeInclusive<u32> = 35..=3_650;
/// From how many times on a frequency is not told apart any more.
pub const FREQUENCY_TIMES: u32 = 100;
/// Most events that an explanation shows.
pub const EXPLAINED_EVENTS: usize = 10_000;
/// Batches of an append stream that may be unacknowledged at a time.
pub const STREAM_CREDITS: u32 = 16;
/// Longest id of an append stream, in bytes; leaves room for the sequence in the receipt's id.
pub const STREAM_ID_BYTES: usize = 200;
/// Most live keys of a tenant.
pub const KEYS: usize = 1_000;

const _: () = assert!(EVENT_BYTES <= MESSAGE_BYTES);
const _: () = assert!(STREAM_ID_BYTES + 21 <= ID_BYTES);
const _: () = assert!(PAGE_DEFAULT <= PAGE);
const _: () = assert!(*STEPS.end() <= 32, "the kernel keeps one bit per step in 32 bits");
