//! What every database behind [`Store`](super::Store) and [`Reader`](super::Reader) must do, asked through these two
//! alone.
//!
//! A check is an async function of an empty [`Mirror`]. [`suite!`] names all of them once, and makes a module of tests
//! of them for one way to open a mirror; an implementation invokes it beside its own tests. A check that is missing
//! from the list is dead code, which the build refuses.

pub mod audit_requests;
pub mod builders;
pub mod commits;
pub mod deliveries;
pub mod details;
pub mod events;
pub mod feeds;
pub mod health;
pub mod mirror;
pub mod outbox;
pub mod pruning;
pub mod sinks;
pub mod tasks;
pub mod unreadable;

/// Makes a module `$name` of all checks, each on a mirror of its own that `$open` gives: the path of a function without
/// arguments, from the crate's root.
macro_rules! suite {
    ($name:ident, $open:path) => {
        $crate::store::conformance::suite! { @list $name, $open;
            audit_requests {
                everybody_who_asks_before_an_audit_begins_gets_the_same_one,
                an_audit_is_begun_once_and_its_answer_is_kept,
                an_audit_that_was_interrupted_is_asked_for_again,
                old_requests_are_removed,
            }
            commits {
                rows_events_deliveries_and_cursor_move_together,
                a_run_is_read_back_as_it_was_seen,
                nothing_new_writes_nothing_but_a_heartbeat,
                of_two_entries_with_one_id_the_later_counts_and_raises_nothing_by_itself,
                what_a_list_shows_from_before_is_left_to_a_single_read,
                a_run_that_names_another_task_belongs_to_the_feed_that_lists_it,
                a_run_that_is_gone_is_marked_kept_and_no_longer_re_read,
                what_a_commit_changed_is_counted_by_kind,
                a_commit_notifies_when_it_raises_events_and_nothing_else_does,
            }
            events {
                ids_and_bodies_of_events,
                ids_are_made_of_what_happened,
                transitions_that_cannot_be_told_apart_get_different_ids,
                events_are_read_in_order_in_parts_and_by_feed,
                the_last_events_are_found_from_the_end,
                events_are_selected_by_type_and_status,
                the_events_since_a_time_are_found_from_the_end,
            }
            feeds {
                a_new_feed_is_fresh_and_a_known_one_goes_on,
                what_counts_as_history_is_kept,
                a_task_made_after_the_first_look_at_the_account_has_no_history,
                a_failure_is_noted_once_and_cleared_by_the_next_success,
                a_failure_that_goes_on_is_noted_again_after_a_while,
                lost_tasks_differ_from_failing_ones,
                the_overview_counts_the_rows_of_a_feed,
                an_audit_in_progress_is_kept_and_forgotten_with_the_commit,
                distances_are_counted_in_the_list_behind_the_watermark,
                what_is_unseen_is_listed_within_bounds_and_without_a_start,
                of_very_many_open_runs_all_are_loaded_in_turn,
                the_interval_between_successes_is_known_and_grows_slowly,
            }
            health {
                a_database_answers_before_anything_is_in_it,
                health_tells_of_every_feed,
                listed_runs_are_counted_by_status,
                a_commit_says_which_events_it_raised,
                what_is_due_says_when_it_was_observed,
            }
            tasks {
                references_stay_resolved_for_a_while,
                a_reference_to_a_lost_task_is_trusted_for_less_long,
                failures_of_references_no_longer_configured_are_forgotten,
                what_the_api_leaves_out_of_a_task_is_kept,
                tasks_are_known_by_their_names,
            }
            unreadable {
                what_cannot_be_read_is_counted_once_wherever_it_is,
                an_item_that_can_be_read_again_is_forgotten,
                what_cannot_be_read_is_not_absent,
                of_too_many_items_the_newest_are_kept,
            }
            outbox {
                one_event_of_a_run_is_due_at_a_time,
                a_stream_gets_everything_in_order_whatever_the_runs,
                having_been_tried_does_not_make_an_event_due_before_its_turn,
                an_event_is_the_same_on_every_attempt,
                of_the_time_between_attempts_only_the_scheduled_wait_counts,
                fetching_is_bounded_in_bytes,
                a_clock_that_was_set_back_does_not_put_retries_off,
                what_is_held_does_not_hide_what_else_is_due,
                a_delivery_set_aside_in_flight_stays_set_aside_unless_it_arrives,
                the_parts_of_an_exchange_follow_one_another,
                a_repeated_exchange_changes_nothing_that_matters,
                sinks_do_not_get_in_each_others_way,
            }
            sinks {
                what_status_shows_of_a_sink,
                what_a_failing_sink_has_been_owed_for_too_long_is_set_aside,
                setting_aside_ends_after_a_chunk,
                what_is_in_flight_is_not_set_aside,
                a_sink_added_later_starts_now_or_at_the_beginning,
                a_long_backlog_is_copied_in_chunks,
                a_sink_that_comes_back_goes_on_where_it_stopped,
                a_commit_owes_its_events_to_every_subscription,
                a_temporary_subscription_changes_no_other_and_gets_nothing_afterwards,
                a_subscription_can_be_removed_for_good,
                every_exchange_says_whether_the_sink_is_live,
            }
            deliveries {
                deliveries_are_listed_by_state_oldest_first,
                an_event_can_be_tried_again_or_dropped,
                a_failure_in_flight_does_not_undo_a_retry_by_hand,
                a_retry_by_hand_is_a_new_beginning_for_a_sink_that_failed_for_long,
                a_number_given_twice_counts_once,
                a_worker_is_told_of_retries_by_hand,
                many_deliveries_are_changed_in_chunks,
                a_delivery_dropped_in_flight_stays_dropped,
            }
            details {
                the_event_of_a_run_that_failed_waits_for_its_details,
                an_event_waits_no_longer_than_it_may_and_stays_as_it_went,
                details_of_a_later_end_are_not_those_of_an_earlier_one,
                figures_that_are_not_final_are_read_again,
                a_single_read_by_a_poll_gives_details_at_once,
                what_cannot_be_read_is_put_off_and_then_given_up,
                runs_from_before_details_were_wanted_are_found_the_newest_first,
                another_end_takes_its_details_even_if_nobody_wanted_any_then,
                what_waits_is_not_pruned_and_details_go_with_their_runs,
            }
            pruning {
                what_is_older_than_it_is_kept_is_pruned_and_nothing_else,
                what_a_sink_is_owed_is_kept,
                what_was_set_aside_is_kept_until_that_is_pruned,
                what_a_configured_subscription_has_yet_to_copy_is_kept,
                a_pruned_run_that_is_listed_again_goes_on_where_it_was,
                no_number_and_no_id_of_a_pruned_event_is_used_again,
                pruning_goes_on_where_it_stopped,
                a_database_without_free_space_has_none_to_give_back,
            }
        }
    };
    (@list $name:ident, $open:path; $($subject:ident { $($check:ident,)+ })+) => {
        mod $name {
            $(mod $subject {
                $(#[tokio::test]
                async fn $check() {
                    $crate::store::conformance::$subject::$check($open()).await;
                })+
            })+
        }
    };
}
pub(crate) use suite;
