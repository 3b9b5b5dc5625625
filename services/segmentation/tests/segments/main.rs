//! Segments against whoever looks at every event of every visitor: random definitions over random events, at random instants, and as they are watched.

#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

mod live;
mod members;
mod outage;
mod random;
mod slow;
mod world;
