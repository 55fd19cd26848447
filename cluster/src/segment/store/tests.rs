//! Torn tails are cut, rot stops, everything else reads back.

use proptest::prelude::*;

use super::*;

fn open(dir: &Path) -> Result<(Segments, Vec<Vec<u8>>), SegmentError> {
    let mut found = Vec::new();
    let store = Segments::open(dir, 200, true, &mut |number, _, payload| {
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
    scan::file_path(dir, *scan::list(dir).unwrap().last().unwrap())
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
    let files = scan::list(dir.path()).unwrap();
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
    let mut store = Segments::open(dir.path(), 200, true, &mut |_, _, _| Ok(())).unwrap();
    store.remove_below(1).unwrap();
    assert_eq!((store.oldest(), scan::list(dir.path()).unwrap()), (1, vec![1, 2]));
    store.remove_below(99).unwrap();
    assert_eq!(scan::list(dir.path()).unwrap(), vec![2]);
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
