//! What is told about a user agent.

/// What a user agent says of itself. The default knows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Device {
    /// What kind of device it is.
    pub kind: Kind,
    /// The system's name without a version, for example `Windows`; empty when it is not known, and for a bot.
    pub os: &'static str,
    /// The browser's name without a version, for example `Samsung Internet`, or that of the app whose window
    /// shows the page, for example `Instagram`; empty when it is not known, and for a bot.
    pub browser: &'static str,
}

/// Kinds of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Kind {
    /// A computer with a desktop, laptops included.
    Desktop,
    /// A phone. An app that says Android or iOS without saying on what counts as one.
    Mobile,
    /// A tablet, or a reader of books.
    Tablet,
    /// A television, or a box or stick that makes one smart.
    Tv,
    /// A console for games, handhelds included.
    Console,
    /// A watch, or a headset.
    Wearable,
    /// No person: a crawler, a monitor, a link preview, a library or tool for HTTP, a browser without a
    /// window.
    Bot,
    /// Nothing known says what it is. A header that is absent or empty is this, and not a bot.
    #[default]
    Unknown,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 8] = [
        Kind::Desktop,
        Kind::Mobile,
        Kind::Tablet,
        Kind::Tv,
        Kind::Console,
        Kind::Wearable,
        Kind::Bot,
        Kind::Unknown,
    ];

    /// The kind as a value to store and to ask for; empty for [`Kind::Unknown`]. These texts never change.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Desktop => "desktop",
            Kind::Mobile => "mobile",
            Kind::Tablet => "tablet",
            Kind::Tv => "tv",
            Kind::Console => "console",
            Kind::Wearable => "wearable",
            Kind::Bot => "bot",
            Kind::Unknown => "",
        }
    }
}
