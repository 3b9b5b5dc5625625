//! The typed fields of an event beside its properties.

/// A typed field. The numbers are stored and never change; they equal `runnel.query.v1.Field`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Field {
    /// Millionths of the value's currency unit.
    ValueMicros = 1,
    /// The value's currency.
    ValueCurrency = 2,
    /// Millionths of the cost's currency unit.
    CostMicros = 3,
    /// The cost's currency.
    CostCurrency = 4,
    /// Consent to analytics.
    ConsentAnalytics = 5,
    /// Consent to advertising.
    ConsentAds = 6,
    /// Consent to personalisation.
    ConsentPersonalization = 7,
    /// Campaign source.
    CampaignSource = 8,
    /// Campaign medium.
    CampaignMedium = 9,
    /// Campaign name.
    CampaignName = 10,
    /// Campaign term.
    CampaignTerm = 11,
    /// Campaign content.
    CampaignContent = 12,
    /// Campaign identifier.
    CampaignId = 13,
    /// Click identifier.
    CampaignClickId = 14,
    /// Outcome of the operation.
    Outcome = 15,
    /// Error code.
    ErrorCode = 16,
    /// Latency in milliseconds.
    LatencyMs = 17,
    /// Attempt.
    Attempt = 18,
    /// Kind of off-site event.
    OffSite = 19,
}

impl Field {
    /// Every field, by number.
    pub const ALL: [Field; 19] = [
        Field::ValueMicros,
        Field::ValueCurrency,
        Field::CostMicros,
        Field::CostCurrency,
        Field::ConsentAnalytics,
        Field::ConsentAds,
        Field::ConsentPersonalization,
        Field::CampaignSource,
        Field::CampaignMedium,
        Field::CampaignName,
        Field::CampaignTerm,
        Field::CampaignContent,
        Field::CampaignId,
        Field::CampaignClickId,
        Field::Outcome,
        Field::ErrorCode,
        Field::LatencyMs,
        Field::Attempt,
        Field::OffSite,
    ];

    /// The field with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Field> {
        Field::ALL.get((number as usize).checked_sub(1)?).copied()
    }

    /// The field's number.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }
}
