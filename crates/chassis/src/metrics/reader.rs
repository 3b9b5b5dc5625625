//! Reads numbers when somebody asks for them.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        InstrumentKind, ManualReader, Pipeline, Temporality, data::ResourceMetrics, reader::MetricReader,
    },
};

/// A reader that its owner keeps a handle of; the SDK's own is given away when a provider is made.
#[derive(Clone, Debug, Default)]
pub(super) struct OnDemand(Arc<ManualReader>);

impl OnDemand {
    /// All numbers of this instant; none after the provider was shut down.
    pub(super) fn collect(&self) -> ResourceMetrics {
        let mut collected = ResourceMetrics::default();
        drop(self.0.collect(&mut collected));
        collected
    }
}

impl MetricReader for OnDemand {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, into: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(into)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
