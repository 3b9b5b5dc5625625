//! The pages on which sessions begin and end.

use std::{cmp::Reverse, sync::Arc};

use runnel_contracts::{
    proto::insight::v1::{PageCounts, QueryPagesRequest, QueryPagesResponse},
    refusal::{Reason, Refusal},
};
use runnel_journeys::{Journeys, View};
use runnel_kernel::{Pages, pages};
use runnel_model::{Selector, limits};

use super::{
    Scene,
    asked::{Asked, resolved},
};

pub(super) async fn answer(
    journeys: &Journeys,
    scene: &Scene,
    request: QueryPagesRequest,
) -> Result<QueryPagesResponse, Refusal> {
    let top = match request.top as usize {
        0 => limits::BREAK_DOWN_ROWS_DEFAULT,
        asked if asked <= limits::BREAK_DOWN_ROWS => asked,
        asked => {
            let text = format!("top is at most {}; it is {asked}.", limits::BREAK_DOWN_ROWS);
            return Err(Refusal::field(Reason::NumberOutOfRange, "top", text));
        }
    };
    let page = Selector::property(&scene.catalogue.settings.page_property);
    let asked = Asked::new(journeys, scene.over(), &[], [page.clone()]);
    let asked = Arc::new(asked.await?);
    let (column, range) = (asked.column(&page), scene.range.from_ms..scene.range.until_ms);
    let count =
        move |view: &View<'_>| pages(view.sessions(), range.clone(), &view.pages(), view.codes(column));
    let merge = |sum: &mut Pages, more: Pages| sum.merge(&more);
    let found = asked.count(journeys, count, merge).await?;
    let sessions = found.rows.values().map(|row| row.landings).sum();
    let mut pages: Vec<PageCounts> = found
        .rows
        .iter()
        .map(|(code, row)| PageCounts {
            page: asked.value(column, *code).map(|value| value.show()),
            landings: row.landings,
            exits: row.exits,
            bounces: row.bounces,
        })
        .collect();
    pages.sort_by_key(|row| (Reverse(row.landings), Reverse(row.exits), row.page.clone()));
    let more_pages = pages.len().saturating_sub(top) as u64;
    pages.truncate(top);
    let denied = asked.unobserved(journeys).await?;
    Ok(QueryPagesResponse {
        pages,
        sessions,
        without_page: found.without_page,
        more_pages,
        unobserved: denied.count(scene.range.from_ms..scene.range.until_ms, |_| true),
        provenance: Some(asked.provenance(Vec::new())),
        range: Some(resolved(scene.range)),
    })
}
