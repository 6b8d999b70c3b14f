//! Benchmarks of GPUs as data: one schema, written by the command and by the browser's page, and a
//! report in HTML that needs nothing but itself.
//!
//! Nothing here measures. [`Report`] is the schema (`docs/gpubench.md`), [`html`] the page.
#![forbid(unsafe_code)]

mod html;
mod plot;
mod schema;

pub use html::html;
pub use schema::{
    Adapter, Features, Group, Host, LimitSet, Machine, Report, Row, SCHEMA, Stats, Status, VERSION,
};
