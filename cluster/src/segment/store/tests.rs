//! Torn tails are cut, rot stops, everything else reads back.

use proptest::prelude::*;

use super::*;
use crate::disk::faults::Faults;
use crate::disk::system;

fn open(dir: &Path) -> Result<(Segments, Vec<Vec<u8>>), SegmentError> {
    let mut found = Vec::new();
    let store = Segments::open(&system(), dir, 200, true, &mut |number, _, payload| {
        assert_eq!(number, found.len() as u64);
        found.push(payload.to_vec());
        Ok(())
    })?;
    Ok((store, found))
}

fn filled(dir: &Path, batches: &[&[&[u8]]]) {
    let (mut store, _) = open(dir).unwrap();
    for batch in batches {
        for payload in *batch {
            store.append(payload).unwrap();
        }
        store.sync().unwrap();
        if store.full() {
            store.roll().unwrap();
        }
    }
    std::mem::forget(store); // as a killed process: no closing mark
}

fn last_file(dir: &Path) -> PathBuf {
    scan::file_path(dir, *scan::list(&*system(), dir).unwrap().last().unwrap())
}

fn damage(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0xff;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn records_survive_reopening_and_can_be_read_by_place() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path()).unwrap();
    let place = store.append(b"one").unwrap();
    store.append(b"two").unwrap();
    store.sync().unwrap();
    assert_eq!(store.reader().read(place).unwrap(), b"one");
    drop(store);
    let (store, found) = open(dir.path()).unwrap();
    assert_eq!(found, vec![b"one".to_vec(), b"two".to_vec()]);
    assert_eq!(store.next(), 2);
}

#[test]
fn an_incomplete_last_record_is_cut_and_its_number_used_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), &[&[b"one"], &[b"two"]]);
    let path = last_file(dir.path());
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 2]).unwrap();
    let (mut store, found) = open(dir.path()).unwrap();
    assert_eq!(found, vec![b"one".to_vec()]);
    store.append(b"again").unwrap();
    drop(store);
    assert_eq!(open(dir.path()).unwrap().1, vec![b"one".to_vec(), b"again".to_vec()]);
}

#[test]
fn a_batch_whose_first_page_was_lost_is_cut_whole() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), &[&[b"one"], &[b"two", b"three"]]);
    damage(&last_file(dir.path()), scan::FILE_HEADER + frame::HEADER + 3 + frame::HEADER);
    assert_eq!(open(dir.path()).unwrap().1, vec![b"one".to_vec()]);
}

#[test]
fn damage_below_a_later_durable_mark_stops_with_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), &[&[b"one"], &[b"two"]]);
    let path = last_file(dir.path());
    damage(&path, scan::FILE_HEADER + frame::HEADER);
    match open(dir.path()) {
        Err(SegmentError::Rot { path: found, offset, .. }) => {
            assert_eq!((found, offset), (path, scan::FILE_HEADER as u64));
        }
        other => panic!("rot was not noticed: {other:?}"),
    }
}

#[test]
fn damage_in_the_last_record_is_rot_once_the_store_was_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path()).unwrap();
    store.append(b"one").unwrap();
    drop(store);
    damage(&last_file(dir.path()), scan::FILE_HEADER + frame::HEADER);
    assert!(matches!(open(dir.path()), Err(SegmentError::Rot { .. })));
}

#[test]
fn damage_or_loss_in_a_closed_file_is_rot() {
    let dir = tempfile::tempdir().unwrap();
    let long = [7u8; 300];
    filled(dir.path(), &[&[&long], &[&long], &[b"end"]]);
    let files = scan::list(&*system(), dir.path()).unwrap();
    assert_eq!(files, vec![0, 1, 2]);
    let middle = scan::file_path(dir.path(), 1);
    let whole = std::fs::read(&middle).unwrap();
    std::fs::write(&middle, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(open(dir.path()), Err(SegmentError::Rot { .. })));
    std::fs::remove_file(&middle).unwrap();
    assert!(matches!(open(dir.path()), Err(SegmentError::Rot { .. })));
}

#[test]
fn a_file_torn_while_it_was_made_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), &[&[&[7; 300]]]);
    std::fs::write(last_file(dir.path()), b"TAN").unwrap();
    let (mut store, found) = open(dir.path()).unwrap();
    assert_eq!(found.len(), 1);
    store.append(b"two").unwrap();
    drop(store);
    assert_eq!(open(dir.path()).unwrap().1.len(), 2);
}

#[test]
fn only_whole_files_below_the_number_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), &[&[&[7; 300]], &[&[7; 300]], &[b"end"]]);
    let mut store = Segments::open(&system(), dir.path(), 200, true, &mut |_, _, _| Ok(())).unwrap();
    store.remove_below(1).unwrap();
    assert_eq!((store.oldest(), scan::list(&*system(), dir.path()).unwrap()), (1, vec![1, 2]));
    store.remove_below(99).unwrap();
    assert_eq!(scan::list(&*system(), dir.path()).unwrap(), vec![2]);
}

/// A store on a disk with faults, with one synced record in it.
fn begun(dir: &Path) -> (Faults, Segments) {
    let faults = Faults::default();
    let mut store = Segments::open(&faults.disk(), dir, 200, true, &mut |_, _, _| Ok(())).unwrap();
    store.append(b"one").unwrap();
    store.sync().unwrap();
    (faults, store)
}

#[test]
fn what_a_full_disk_refused_is_written_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, mut store) = begun(dir.path());
    faults.full(true);
    let place = store.append(b"two").unwrap();
    for _ in 0..2 {
        assert!(matches!(store.sync(), Err(SegmentError::Io { .. })));
        assert_eq!(store.durable, 1);
    }
    faults.full(false);
    store.sync().unwrap();
    assert_eq!((store.durable, store.take_moved()), (2, vec![]));
    assert_eq!(store.reader().read(place).unwrap(), b"two");
    std::mem::forget(store);
    faults.cut_power(0).unwrap();
    assert_eq!(open(dir.path()).unwrap().1, vec![b"one".to_vec(), b"two".to_vec()]);
}

#[test]
fn a_full_disk_can_keep_a_file_from_being_closed_and_it_is_closed_later() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, mut store) = begun(dir.path());
    store.append(&[7; 300]).unwrap();
    store.sync().unwrap();
    faults.full(true);
    assert!(store.full() && store.roll().is_err());
    faults.full(false);
    store.roll().unwrap();
    store.append(b"three").unwrap();
    drop(store);
    assert_eq!(open(dir.path()).unwrap().1.len(), 3);
}

#[test]
fn after_a_failed_sync_the_unacknowledged_records_go_to_a_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, mut store) = begun(dir.path());
    let reader = store.reader();
    faults.fail_syncs(1);
    let place = store.append(b"two").unwrap();
    assert!(store.sync().is_err());
    let later = store.append(b"three").unwrap();
    store.sync().unwrap();
    assert_eq!(scan::list(&*system(), dir.path()).unwrap(), vec![0, 1]);
    let moved = store.take_moved();
    let now: Vec<Location> = [place, later].map(|at| moved.iter().fold(at, |at, one| one.follow(at))).into();
    assert_eq!(now.iter().map(|at| at.segment).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(now.iter().map(|at| reader.read(*at).unwrap()).collect::<Vec<_>>(), [&b"two"[..], b"three"]);
    std::mem::forget(store);
    faults.cut_power(0).unwrap();
    assert_eq!(open(dir.path()).unwrap().1, [&b"one"[..], b"two", b"three"]);
}

#[test]
fn a_sync_that_fails_again_and_again_loses_nothing_of_what_is_acknowledged_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, mut store) = begun(dir.path());
    store.append(b"two").unwrap();
    faults.fail_syncs(3);
    // One of the failures is that of a new file's header: that file never gets its name.
    let failures = std::iter::repeat_with(|| store.sync()).take_while(Result::is_err).count();
    assert_eq!(failures, 3);
    assert_eq!(store.durable, 2);
    std::mem::forget(store);
    faults.cut_power(0).unwrap();
    assert_eq!(open(dir.path()).unwrap().1, [&b"one"[..], b"two"]);
}

#[test]
fn records_whose_sync_an_earlier_process_saw_fail_are_written_again_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, mut store) = begun(dir.path());
    store.append(b"two").unwrap();
    faults.fail_syncs(1);
    assert!(store.sync().is_err());
    std::mem::forget(store); // it stops there; the page cache still shows what the disk has not
    let store = Segments::open(&faults.disk(), dir.path(), 200, true, &mut |_, _, _| Ok(())).unwrap();
    assert_eq!((store.next(), store.durable), (2, 2));
    std::mem::forget(store);
    faults.cut_power(0).unwrap();
    assert_eq!(open(dir.path()).unwrap().1, [&b"one"[..], b"two"]);
}

#[test]
fn a_mark_before_records_that_are_written_again_is_written_again_too() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, mut store) = begun(dir.path());
    store.mark().unwrap();
    store.append(b"not synced").unwrap();
    faults.fail_syncs(1);
    store.sync().unwrap_err();
    std::mem::forget(store); // as a killed process
    std::mem::forget(Segments::open(&faults.disk(), dir.path(), 200, true, &mut |_, _, _| Ok(())).unwrap());
    faults.cut_power(0).unwrap();
    let (_, found) = open(dir.path()).unwrap();
    assert_eq!(found.last().unwrap(), b"not synced");
}

#[test]
fn a_power_cut_leaves_what_was_synced_and_a_torn_tail_that_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, mut store) = begun(dir.path());
    store.append(b"never synced").unwrap();
    store.write().unwrap();
    std::mem::forget(store);
    faults.cut_power(11).unwrap();
    let (store, found) = open(dir.path()).unwrap();
    assert_eq!((found, store.next()), (vec![b"one".to_vec()], 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn cutting_the_last_file_anywhere_leaves_a_prefix_or_stops(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 1..12),
        cut: prop::sample::Index,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let batches: Vec<Vec<&[u8]>> = payloads.iter().map(|p| vec![p.as_slice()]).collect();
        let batches: Vec<&[&[u8]]> = batches.iter().map(Vec::as_slice).collect();
        filled(dir.path(), &batches);
        let path = last_file(dir.path());
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..cut.index(whole.len() + 1)]).unwrap();
        let (_, found) = open(dir.path()).unwrap();
        prop_assert_eq!(&found[..], &payloads[..found.len()]);
    }

    #[test]
    fn a_flipped_byte_is_never_read_as_a_record(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6),
        at: prop::sample::Index,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let batches: Vec<Vec<&[u8]>> = payloads.iter().map(|p| vec![p.as_slice()]).collect();
        let batches: Vec<&[&[u8]]> = batches.iter().map(Vec::as_slice).collect();
        filled(dir.path(), &batches);
        let path = last_file(dir.path());
        let len = std::fs::metadata(&path).unwrap().len() as usize;
        damage(&path, at.index(len));
        if let Ok((_, found)) = open(dir.path()) {
            prop_assert_eq!(&found[..], &payloads[..found.len()]);
        }
    }
}
