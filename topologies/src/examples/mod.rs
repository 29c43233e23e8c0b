//! Small topologies that show the shape of the DSL, each a screenful, each tested. Know the engine
//! and plain types only, nothing of the platform.

pub mod order_enrichment;
pub mod windowed_clicks;
pub mod word_count;
