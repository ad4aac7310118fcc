# cython: language_level=3, boundscheck=False, wraparound=False
"""The functions of `watching.py` as loops in C; what is said there holds here."""

from cpython.dict cimport PyDict_Next
from cpython.ref cimport PyObject


def says_the_same(object signature, object doc, list snapshot):
    cdef Py_ssize_t place = 0
    cdef dict fields
    cdef tuple before
    if signature.__doc__ is not doc:
        return False
    fields = signature.__pydantic_fields__
    if len(fields) != len(snapshot):
        return False
    for info in fields.values():
        before = <tuple>snapshot[place]
        if info.annotation is not before[0] or info.json_schema_extra != before[1]:
            return False
        place += 1
    return True


def stores_of_examples(list demos, frozenset kinds):
    cdef list stores = []
    for demo in demos:
        if type(demo) not in kinds:
            return None
        stores.append(demo._store)
    return stores


def holds_the_same(list dicts, list dict_copies, list lists, list list_copies, list objects):
    cdef Py_ssize_t k
    if len(dicts) != len(dict_copies) or len(lists) != len(list_copies):
        return False
    for k in range(len(dicts)):
        if not same_entries(<dict?>dicts[k], <dict>dict_copies[k]):
            return False
    for k in range(len(lists)):
        if not same_items(<list?>lists[k], <list>list_copies[k]):
            return False
    return True


cdef bint same_entries(dict now, dict before) except -1:
    cdef Py_ssize_t place = 0, place_before = 0
    cdef PyObject *key
    cdef PyObject *value
    cdef PyObject *key_before
    cdef PyObject *value_before
    if len(now) != len(before):
        return False
    while PyDict_Next(before, &place_before, &key_before, &value_before):
        if not PyDict_Next(now, &place, &key, &value) or value is not value_before:
            return False
        if key is not key_before and <object>key != <object>key_before:
            return False
    return True


cdef bint same_items(list now, list before) except -1:
    cdef Py_ssize_t k
    if len(now) != len(before):
        return False
    for k in range(len(now)):
        if now[k] is not before[k]:
            return False
    return True
