/* XML of any bytes by record path, as PubMed, and as a MediaWiki dump. */
#include "rows.h"

extern const fm_reader_def fm_reader_xml, fm_reader_pubmed, fm_reader_mediawiki;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fm_reader_options o = read_defaults();
    fuzz_rows(&fm_reader_pubmed, data, size, o);
    fuzz_rows(&fm_reader_mediawiki, data, size, o);
    o.record_path = size % 2 ? "//entry" : "/feed/entry";
    fuzz_rows(&fm_reader_xml, data, size, o);
    return 0;
}
