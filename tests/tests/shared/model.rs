//! The scripts on a real server and the model of them, side by side: random
//! commands, every answer compared.

use crate::shared::fixture::{Fixture, key};
use anyhow::{Result, ensure};
use bytes::Bytes;
use dimsvc::{shared::Session, state::SharedState};
use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};
use tidemark_heart::{
    Image, VersionedRow,
    shared::{Newest, SharedModel, SharedRead},
};
use tidemark_proto::Position;

const CASES: u32 = 300;

#[derive(Clone, Debug)]
enum Command {
    ReadOrLease {
        ids: Vec<u32>,
        token: u64,
    },
    Fill {
        id: u32,
        newest: Newest,
        token: u64,
    },
    Update {
        id: u32,
        version: Position,
        image: Image,
    },
    Evict {
        id: u32,
    },
    EvictLease {
        id: u32,
    },
    Flush,
    /// The next generation from here on.
    Raise,
}

fn position() -> impl Strategy<Value = Position> {
    let odd = select(vec![1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]);
    let file = select(vec![0x7f_u64, 0x80, 0x8000]);
    (file, odd).prop_map(|(file, offset)| Position::try_new(1, file, offset).expect("it fits"))
}

fn image() -> impl Strategy<Value = Image> {
    proptest::option::of(vec(any::<u8>(), 0..12).prop_map(Bytes::from))
}

fn command() -> impl Strategy<Value = Command> {
    let id = 0_u32..3;
    let token = 1_u64..4;
    prop_oneof![
        6 => (vec(id.clone(), 1..4), token.clone())
            .prop_map(|(ids, token)| Command::ReadOrLease { ids, token }),
        6 => (id.clone(), proptest::option::of((position(), image())), token)
            .prop_map(|(id, newest, token)| Command::Fill { id, newest, token }),
        6 => (id.clone(), position(), image())
            .prop_map(|(id, version, image)| Command::Update { id, version, image }),
        1 => id.clone().prop_map(|id| Command::Evict { id }),
        1 => id.prop_map(|id| Command::EvictLease { id }),
        1 => Just(Command::Flush),
        1 => Just(Command::Raise),
    ]
}

/// Change any line of the scripts, or of the model, to see it fail.
#[test]
fn the_scripts_do_what_the_model_says() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let fixture = runtime.block_on(Fixture::start())?;
    let runner = &mut TestRunner::new(ProptestConfig {
        failure_persistence: None,
        cases: CASES,
        ..Default::default()
    });
    runner.run(&vec(command(), 1..40), |commands| {
        let compare = async {
            fixture.redis.flush()?;
            let mut model = SharedModel::default();
            for command in &commands {
                if matches!(command, Command::Raise) {
                    let generation = fixture.session().await?.generation() + 1;
                    fixture.tier.publish(&SharedState { generation, ..fixture.published() });
                }
                let session = fixture.session().await?;
                step(&fixture, &session, &mut model, command).await?;
            }
            let last = Command::ReadOrLease { ids: vec![0, 1, 2], token: 9 };
            step(&fixture, &fixture.session().await?, &mut model, &last).await
        };
        runtime.block_on(compare).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    })?;
    Ok(())
}

const TABLE: &str = "model";

async fn step(
    fixture: &Fixture,
    session: &Session,
    model: &mut SharedModel,
    command: &Command,
) -> Result<()> {
    let generation = session.generation();
    match command.clone() {
        Command::ReadOrLease { ids, token } => {
            let keys: Vec<_> = ids.into_iter().map(key).collect();
            let real = session.read_or_lease(TABLE, &keys, token).await?;
            let modelled: Vec<_> =
                keys.iter().map(|key| model.read_or_lease(generation, key, token)).collect();
            ensure!(real == modelled, "{command:?}: Redis {real:?}, model {modelled:?}");
        }
        Command::Fill { id, newest, token } => {
            let real = session.fill(TABLE, &[(key(id), newest.clone())], token).await? == 1;
            let modelled = model.fill(generation, &key(id), newest, token);
            ensure!(real == modelled, "{command:?}: Redis {real}, model {modelled}");
        }
        Command::Update { id, version, image } => {
            let row = VersionedRow { key: key(id), version, image };
            session.update(TABLE, std::slice::from_ref(&row)).await?;
            model.update(generation, &row);
        }
        Command::Evict { id } => {
            session.drop_keys(TABLE, &[key(id)]).await?;
            model.evict(generation, &key(id));
        }
        Command::EvictLease { id } => {
            if session.peek(TABLE, &[key(id)]).await? == [Some(SharedRead::Busy)] {
                session.drop_keys(TABLE, &[key(id)]).await?;
            }
            model.evict_lease(generation, &key(id));
        }
        Command::Flush => {
            fixture.redis.flush()?;
            model.flush();
        }
        Command::Raise => {}
    }
    Ok(())
}
