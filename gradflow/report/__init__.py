"""The report: one HTML file about a run or a sweep, which needs no network and no other file.

:func:`write_report` gathers how the runs ended, what is wrong with their gradients, their settings and the gallery's
figures with their claims (:mod:`~gradflow.report.content`), makes charts of those in which one wants to look at values,
at other iterations or at some of the runs (:mod:`~gradflow.report.charts`), and puts it all on a page in English and
Chinese (:mod:`~gradflow.report.page`). The numbers are those of the gallery.
"""

from gradflow.report.writing import write_report

__all__ = ["write_report"]
