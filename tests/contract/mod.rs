//! Tests what kube-apiserver demands of a KMS v2 plugin. Each demand is a test with a real kube-apiserver.
//!
//! The demands are the rows of `docs/kube-apiserver.md`. Tests of a healthy plugin run claviger itself. Tests of a
//! faulty plugin put [`meddler`] between claviger and the API server. Tests that leave no trace share an API server:
//! [`meddled`] has a provider entry for each fault. Rules about features that claviger lacks are not tested here:
//! fencing by etcd, and the keyring in etcd. [`nightly`] has the rules that take minutes, with the
//! real waits.
//!
//! | row | test |
//! |---|---|
//! | 1.1 | `healthz_other_than_ok_fails_readiness_in_the_words_of_the_plugin` |
//! | 1.2 | `a_version_other_than_v2_fails_readiness_and_stops_no_write` |
//! | 1.3 | `the_first_version_is_pinned` |
//! | 1.4 | `an_empty_key_id_is_refused` |
//! | 1.4 | `a_key_id_of_1025_bytes_is_refused` |
//! | 1.5 | `a_key_id_other_than_that_of_status_is_refused` |
//! | 1.6 | `an_empty_ciphertext_is_refused` |
//! | 1.6 | `a_ciphertext_of_1025_bytes_is_refused` |
//! | 1.7 | `annotations_over_32_kib_are_refused` |
//! | 1.7 | `an_annotation_whose_name_is_no_domain_is_refused` |
//! | 1.8 | `the_longest_answers_are_taken` |
//! | 1.9 | `a_seed_under_32_bytes_is_refused` |
//! | 1.9 | `a_dek_of_kubernetes_1_27_is_still_read` |
//! | 1.10 | `a_wrong_seed_is_kept_and_never_asked_for_again` |
//! | 1.11 | `a_call_may_take_3_s` |
//! | 1.11 | `the_configuration_may_give_a_call_longer` |
//! | 2.1 | `two_provider_entries_on_one_socket_have_a_seed_each` |
//! | 2.2 | `two_api_servers_have_a_seed_each_and_read_what_the_other_wrote` |
//! | 2.3 | `status_comes_before_encrypt_on_every_connection` |
//! | 2.4 | `encrypt_is_asked_once_by_each_connection_and_not_by_writes` |
//! | 2.5 | `every_seed_has_32_bytes` |
//! | 2.6 | `encrypt_and_decrypt_are_named_by_uids_that_are_never_used_twice` |
//! | 2.7 | `every_call_has_localhost_as_its_authority_and_waits_at_most_3_s` |
//! | 2.8 | `a_seed_is_unwrapped_once_and_kept` |
//! | 2.9 | `lists_come_from_memory_and_prove_nothing_about_what_is_stored` |
//! | 2.10 | `metrics_name_the_key_id_by_its_sha_256` |
//! | 2.11 | `metrics_count_seeds_and_calls` |
//! | 2.12 | `status_is_asked_every_60_s_while_good_and_every_10_s_while_not` |
//! | 3.1 | `healthz_other_than_ok_at_the_start_stops_no_write` |
//! | 3.1 | `healthz_other_than_ok_later_stops_neither_writes_nor_reads` |
//! | 3.1 | `healthz_other_than_ok_does_not_stop_writes_after_180_s_either` |
//! | 3.2 | `a_refused_status_fails_readiness_and_writes_coast` |
//! | 3.3 | `writes_coast_for_180_s_after_the_last_good_status_and_reads_go_on` |
//! | 3.4 | `a_status_refused_from_the_start_stops_writes_and_reads_until_it_is_answered` |
//! | 3.5 | `reads_fail_until_one_encrypt_has_succeeded` |
//! | 3.6 | `clients_see_an_unknown_key_id_in_fixed_words` |
//! | 3.7 | `one_object_that_does_not_open_breaks_the_list_of_its_type` |
//! | 3.7 | `a_disabled_key_is_refused_by_name_and_reads_again_once_it_is_enabled` |
//! | 3.8 | `one_object_that_does_not_open_keeps_the_next_start_from_being_ready` |
//! | 3.9 | `what_does_not_open_is_deleted_only_by_asking_for_damage` |
//! | 3.9 | `what_cannot_be_read_for_the_moment_can_be_lost_the_same_way` |
//! | 3.10 | `a_value_under_another_provider_name_is_orphaned` |
//! | 4.1 | `a_new_key_id_is_adopted_and_the_old_one_still_read` |
//! | 4.1 | `keys_are_promoted_under_writers_and_readers_and_no_request_fails` |
//! | 4.2 | `a_put_of_what_is_there_rewrites_a_stale_object` |
//! | 4.2 | `an_empty_merge_patch_rewrites_a_stale_object` |
//! | 4.2 | `an_empty_strategic_patch_rewrites_a_stale_object` |
//! | 4.2 | `an_empty_json_patch_rewrites_a_stale_object` |
//! | 4.2 | `an_apply_of_nothing_rewrites_a_stale_object` |
//! | 4.3 | `a_patch_that_asks_for_metadata_rewrites_an_immutable_secret_and_shows_nothing_of_it` |
//! | 4.4 | `an_empty_patch_creates_nothing` |
//! | 5.1 | `a_plugin_that_comes_late_is_found` |
//! | 5.1 | `a_plugin_that_comes_a_minute_late_is_found` |
//! | 5.2 | `a_call_waits_for_a_plugin_that_restarts` |
//! | 5.3 | `a_plugin_that_was_away_for_minutes_is_found_again` |
//! | 5.4 | `an_api_server_starts_over_5000_secrets_under_1000_seeds` |
//! | 5.5 | `a_resource_added_to_the_configuration_is_encrypted_within_a_minute_and_no_request_fails` |
//! | 5.6 | `kubernetes_1_31_over_a_path_fails_with_protocol_error` |
//! | 5.6 | `kubernetes_1_31_works_over_an_abstract_socket` |
//! | 5.7 | `a_configuration_that_is_missing_is_fatal` |
//! | 5.7 | `a_configuration_that_is_no_yaml_is_fatal` |
//! | 5.8 | `an_endpoint_that_is_no_unix_socket_is_fatal` |
//! | 5.8 | `a_cache_size_with_v2_is_fatal` |
//! | 5.8 | `a_timeout_of_0_is_fatal` |
//! | 5.9 | `an_empty_provider_name_is_fatal` |
//! | 5.9 | `a_provider_name_used_twice_is_fatal` |
//! | 5.9 | `a_colon_in_the_provider_name_is_fatal` |

mod answers;
mod calls;
mod config;
pub(crate) mod front;
mod health;
pub(crate) mod http;
mod kms;
mod life;
mod meddled;
mod meddler;
mod nightly;
mod reload;
mod rig;
mod rows;
mod seal;
mod stale;
mod start;
mod storm;

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
