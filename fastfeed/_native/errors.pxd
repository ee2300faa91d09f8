# The one place where the core's errors become Python's. Use `except +raise_native_error` on every extern that throws.
cdef extern from *:
    """
    #include <Python.h>
    #include <cstring>
    #include <new>
    #include <stdexcept>
    #include "error.hpp"

    // Called by Cython inside a catch block. Takes the GIL itself where it is not held.
    static void raise_native_error() {
        PyGILState_STATE gil = PyGILState_Ensure();
        if (PyErr_Occurred()) {  // a signal's handler raised during the call: that is what the caller is to see
            PyGILState_Release(gil);
            return;
        }
        auto raise = [](const char* name, const std::string& text) {
            PyObject* module = PyImport_ImportModule("fastfeed.errors");
            PyObject* type = module ? PyObject_GetAttrString(module, name) : nullptr;
            // Paths are bytes: surrogateescape, as os.fsdecode does.
            PyObject* message = PyUnicode_DecodeUTF8(text.data(), (Py_ssize_t)text.size(), "surrogateescape");
            if (type && message) PyErr_SetObject(type, message);
            Py_XDECREF(message); Py_XDECREF(type); Py_XDECREF(module);
        };
        try {
            throw;
        } catch (const ff::Error& error) {
            std::string text = error.message();
            if (!error.path().empty() && error.code() != ff::Code::os) text = error.path() + ": " + text;
            switch (error.code()) {
                case ff::Code::config: raise("ConfigError", text); break;
                case ff::Code::corrupt: raise("CorruptDataError", text); break;
                case ff::Code::format_version: raise("FormatVersionError", text); break;
                case ff::Code::daemon: raise("DaemonUnavailableError", text); break;
                case ff::Code::origin: raise("OriginError", text); break;
                case ff::Code::origin_changed: raise("OriginChangedError", text); break;
                case ff::Code::cache_full: raise("CacheFullError", text); break;
                case ff::Code::timeout: raise("LoaderTimeoutError", text); break;
                case ff::Code::os: {
                    // OSError(errno, text, filename) makes the right subclass and keeps what we were doing.
                    const std::string what = std::string(std::strerror(error.os_errno())) + " (" + text + ")";
                    PyObject* path = PyUnicode_DecodeFSDefault(error.path().c_str());
                    PyObject* message = PyUnicode_DecodeUTF8(what.data(), (Py_ssize_t)what.size(), "surrogateescape");
                    PyObject* file = error.path().empty() ? Py_None : path;
                    PyObject* made = path && message
                        ? PyObject_CallFunction(PyExc_OSError, "iOO", error.os_errno(), message, file) : nullptr;
                    if (made) PyErr_SetObject((PyObject*)Py_TYPE(made), made);
                    Py_XDECREF(made); Py_XDECREF(message); Py_XDECREF(path);
                    break;
                }
                case ff::Code::no_memory: PyErr_SetString(PyExc_MemoryError, text.c_str()); break;
                default: raise("FastfeedError", text);
            }
        } catch (const std::bad_alloc&) {
            PyErr_NoMemory();
        } catch (const std::exception& error) {
            raise("FastfeedError", std::string("internal error: ") + error.what() + ". Please report it.");
        }
        PyGILState_Release(gil);
    }
    """
    void raise_native_error() noexcept
