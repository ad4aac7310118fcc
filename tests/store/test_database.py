import logging
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from dspex.errors import DefinitionError, StoreError
from dspex.records import Execution, Requirements, Strategy, Usage
from dspex.store import Store, database, default_url
from dspex.store.database import file_system_of, open_engine
from dspex.store.log import Cursor

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/ada/fast\\040disk xfs rw 0 0
//nas/share /mnt/nas cifs rw 0 0
tmpfs /tmp tmpfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/runs.db", "ext4"),
        ("/home/ada/runs.db", "nfs4"),
        ("/home/ada/fast disk/runs.db", "xfs"),
        ("/home/ada/fast disks/runs.db", "nfs4"),
        ("/homestead/runs.db", "ext4"),
        ("/mnt/nas/a/b/runs.db", "cifs"),
        ("/tmp/runs.db", "tmpfs"),  # noqa: S108  # only a name
    ],
)
def test_file_system_of_a_path(path, expected):
    """The deepest mount that holds the path says what it lies on."""
    assert file_system_of(Path(path), MOUNTS) == expected


def test_unknown_mounts_say_nothing():
    """Where no mount is listed, nothing is claimed."""
    assert file_system_of(Path("/a/b"), "") is None


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "lustre", "fuse.sshfs", "9p"])
def test_network_file_systems_are_refused(kind, tmp_path, monkeypatch):
    """SQLite's WAL is not put where it would be damaged; nothing is created, and the hint says where to go."""
    monkeypatch.setattr(database, "file_system_of", lambda path: kind)
    path = tmp_path / "new" / "runs.db"
    with pytest.raises(DefinitionError) as caught:
        Store(str(path))
    assert str(caught.value) == (
        f"SQLite's WAL cannot live on a network file system, {path} is on {kind}\n"
        "  → set DSPEX_STORE to a file on a local disk, or to a postgresql+psycopg:// URL"
    )
    assert not path.parent.exists()


def test_links_are_followed_to_the_file_system(tmp_path, monkeypatch):
    """A link on a local disk that leads to a network disk is seen through."""
    (tmp_path / "remote").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "remote")
    seen = []
    monkeypatch.setattr(database, "file_system_of", seen.append)
    open_engine(str(tmp_path / "link" / "runs.db")).dispose()
    assert seen == [tmp_path / "remote" / "runs.db"]


def test_a_file_is_opened_in_wal_mode(tmp_path):
    """A path or a URL opens the file, its folders included, with the tables made."""
    for url in (str(tmp_path / "a" / "b" / "runs.db"), f"sqlite:///{tmp_path}/a/b/runs.db"):
        engine = open_engine(url)
        with engine.connect() as connection:
            assert connection.execute(text("pragma journal_mode")).scalar() == "wal"
            names = connection.execute(text("select name from sqlite_master where type = 'table'")).scalars()
            assert {"execution", "label", "study", "trial", "score"} <= set(names)
        engine.dispose()


@pytest.mark.parametrize(
    "name", ["what now?.db", "100%.db", "a#b.db", "ü 漢.db", "plain", "x.y.z.db", "a&b=c.db"]
)
def test_any_file_name_will_do(name, tmp_path):
    """A store lies exactly where it was put, whatever characters its path holds."""
    Store(str(tmp_path / name)).close()
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_home_is_understood(tmp_path, monkeypatch):
    """A path may begin with the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    Store("~/runs.db").close()
    assert (tmp_path / "runs.db").is_file()


def test_sqlites_own_word_for_memory(tmp_path, monkeypatch):
    """SQLAlchemy's URLs for a database in memory make no file."""
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite://", "sqlite:///:memory:"):
        Store(url).close()
    assert list(tmp_path.iterdir()) == []


def test_rows_from_before_hedging_were_not_overtaken(tmp_path):
    """The table that is shown has a truth value for them, which can be filtered by."""
    path = str(tmp_path / "runs.db")
    asked = Requirements("QA", "k", 3, 1, reasoning=False, complexity="low")
    old = Execution("old", 1.0, asked, Strategy("m", "P"), "pinned", {}, ok=True, usage=Usage())
    with closing(Store(path)) as store:
        store.append(old)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("alter table execution drop column overtaken")
        connection.commit()
    with closing(Store(path)) as store:
        store.append(replace(old, id="new", role="hedge", parent_id="old", overtaken=True))
        history = store.history()
        assert list(history[history["overtaken"]]["id"]) == ["new"]
        assert [each.overtaken for each in store.since(Cursor())[0]] == [False, True]


def test_an_older_database_gets_the_columns_that_came_later(tmp_path):
    """A store from before executions kept their configuration opens, is read, and takes new rows."""
    path = str(tmp_path / "runs.db")
    asked = Requirements("QA", "k", 3, 1, reasoning=False, complexity="low")
    first, second = (
        Execution(name, 1.0, asked, Strategy("m", "P"), "pinned", {}, ok=True, usage=Usage())
        for name in ("old", "new")
    )
    with closing(Store(path)) as store:
        store.append(first)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("alter table execution drop column configuration")
        connection.commit()
    with closing(Store(path)) as store:
        store.append(replace(second, configuration={"temperature": 0.2}))
        assert store.since(Cursor())[0] == [first, replace(second, configuration={"temperature": 0.2})]


def test_two_processes_may_add_a_column_at_once(tmp_path, monkeypatch):
    """Whoever comes second looks again, finds the column there and goes on."""
    path = str(tmp_path / "runs.db")
    Store(path).close()
    bring_up_to_date, looked = database._bring_up_to_date, []

    def after_the_other(engine):
        looked.append(engine)
        if len(looked) == 1:
            add_a_column_twice(engine)
        bring_up_to_date(engine)

    monkeypatch.setattr(database, "_bring_up_to_date", after_the_other)
    Store(path).close()
    assert len(looked) == 2


def test_a_column_that_cannot_be_added_is_an_error(tmp_path, monkeypatch):
    """The database's own reason is given."""
    path = str(tmp_path / "runs.db")
    Store(path).close()
    monkeypatch.setattr(database, "_bring_up_to_date", add_a_column_twice)
    with pytest.raises(StoreError, match="duplicate column name: configuration"):
        Store(path)


def add_a_column_twice(engine):
    """Do what the slower of two processes does."""
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE execution ADD COLUMN configuration JSON"))


# ── damage ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "content", [b"this is not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_file_is_moved_aside(content, tmp_path, caplog):
    """The damaged file is kept under another name, a warning says so, and work begins on a new one."""
    path = tmp_path / "runs.db"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="dspex.store"):
        store = Store(str(path))
    assert len(store.history()) == 0
    store.close()
    (aside,) = [each for each in tmp_path.iterdir() if "damaged" in each.name]
    assert re.fullmatch(r"runs\.damaged-\d+\.db", aside.name)
    assert aside.read_bytes() == content
    assert [record.getMessage() for record in caplog.records] == [
        f"the store {path} is damaged; it was moved to {aside} and a new one is begun"
    ]


def test_two_damaged_files_are_both_kept(tmp_path, monkeypatch):
    """Damage twice within one second does not cost the first file."""
    monkeypatch.setattr(database.time, "time", lambda: 1.0)
    path = tmp_path / "runs.db"
    contents = [b"first" * 1000, b"second" * 1000]
    for content in contents:
        path.write_bytes(content)
        Store(str(path)).close()
    kept = [each.read_bytes() for each in tmp_path.iterdir() if "damaged" in each.name]
    assert sorted(kept) == contents


def test_an_empty_file_is_a_new_store(tmp_path):
    """A file of no length is no damage."""
    path = tmp_path / "runs.db"
    path.touch()
    Store(str(path)).close()
    assert [each.name for each in tmp_path.iterdir()] == ["runs.db"]


# ── bad URLs ────────────────────────────────────────────────────────────────────────────────────


def test_bad_url():
    """What is neither a path nor a URL is a definition's error."""
    with pytest.raises(DefinitionError) as caught:
        Store("://")
    assert str(caught.value) == (
        "a store is 'memory', a file path, or a database URL; this URL cannot be read\n"
        "  → sqlite:///runs.db or postgresql+psycopg://host/database"
    )


def test_a_bad_port_is_a_definition_error_and_shows_no_password():
    """A URL that cannot be read is refused in our words, without repeating its password."""
    with pytest.raises(DefinitionError) as caught:
        Store("postgresql+psycopg://ada:open-sesame@host:port/runs")
    assert "open-sesame" not in str(caught.value)


def test_a_bad_url_with_a_password_does_not_show_it():
    """A password in something that is no URL is not repeated either."""
    with pytest.raises(DefinitionError) as caught:
        Store("post gres://ada:open-sesame@host/runs")
    assert "open-sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://example.org/runs", "postgresql+psycopg://ada:open-sesame@127.0.0.1:1/runs"]
)
def test_a_database_that_cannot_be_opened(url):
    """Another database needs its driver and a server; the message hides the password."""
    with pytest.raises(StoreError) as caught:
        Store(url)
    assert str(caught.value).startswith("cannot open the store ")
    assert caught.value.hint == "PostgreSQL needs pip install 'dspex[postgres]' and a running server"
    assert "open-sesame" not in str(caught.value)


def test_a_folder_is_no_store(tmp_path):
    """A path that cannot hold a file is told as it is."""
    with pytest.raises(StoreError, match=re.escape(f"cannot open the store {tmp_path}: ")):
        Store(str(tmp_path))


def test_a_path_below_a_file_is_no_store(tmp_path):
    """A folder that cannot be made is told as it is."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot open the store"):
        Store(str(tmp_path / "file" / "runs.db"))


# ── the default ─────────────────────────────────────────────────────────────────────────────────


def test_default_follows_the_environment(monkeypatch):
    """DSPEX_STORE says where the store lies."""
    monkeypatch.setenv("DSPEX_STORE", "sqlite:///here.db")
    assert default_url() == "sqlite:///here.db"


def test_default_is_one_file_per_project(tmp_path, monkeypatch):
    """Without it, every project folder has a file of its own in the user's data folder."""
    monkeypatch.delenv("DSPEX_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    urls = []
    for name in ("one/notes", "two/notes", "what now?"):
        project = tmp_path / name
        project.mkdir(parents=True)
        monkeypatch.chdir(project)
        urls.append(default_url())
        assert default_url() == urls[-1]
        Store(urls[-1]).close()
    assert len(set(urls)) == 3
    names = sorted(each.name for each in (tmp_path / "data" / "dspex").iterdir())
    assert [re.sub(r"-[0-9a-f]{8}\.db$", "", name) for name in names] == ["notes", "notes", "what now?"]
