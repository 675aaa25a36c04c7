/* libxml2 at run time: see xml_lib.h. */
#include "io/xml_lib.h"

#include <pthread.h>

#include "base/dynlib.h"
#include "base/error.h"

#ifdef FM_HAVE_XML2
fm_xml_lib fm_xml;

fm_status fm_xml_open(void) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const fm_dynlib_entry entries[] = {
#define FM_X(name) {&fm_xml.name, #name},
        FM_XML_FUNCTIONS(FM_X)
#undef FM_X
    };
    pthread_mutex_lock(&lock);
    fm_status s = FM_OK;
    if (!fm_xml.lib) {
        void *lib;
        s = fm_dynlib_open(&lib, "libxml2.so.2|libxml2.so.16", "libxml2", entries, FM_ARRAY_LEN(entries));
        if (s == FM_OK) {
            fm_xml.xmlInitParser();
            fm_xml.lib = lib;
        }
    }
    pthread_mutex_unlock(&lock);
    return s;
}
#else
fm_status fm_xml_open(void) {
    fm_error_set(FM_ERR_UNSUPPORTED, __FILE__, __LINE__, "this program was built without libxml2");
    return fm_error_hint("HTML and XML need it: install libxml2-dev and build again");
}
#endif
